"""Tables, figures and the page of finished runs. Nothing here loads torch."""
