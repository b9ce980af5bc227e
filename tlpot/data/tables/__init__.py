"""Tables by id: energies beside structures."""
