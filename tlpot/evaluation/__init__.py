"""Judging a potential: error metrics, figures and the HTML report."""
