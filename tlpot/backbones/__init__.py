"""The networks, behind one base class (`tlpot.backbones.base.Backbone`)."""
