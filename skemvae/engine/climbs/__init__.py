"""EM in few passes: coordinates of models, and quasi-Newton steps in them."""
