"""Numbers of a crystal, learnt by a graph network (CGCNN)."""
