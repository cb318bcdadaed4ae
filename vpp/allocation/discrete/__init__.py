"""Where choices are whole: found by OR-Tools for the sites concerned, beside the rest at its price."""
