"""The report: what a run folder holds, counted (gathering, analysis), drawn (figures, pictures) and put on one page."""
