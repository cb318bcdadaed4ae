"""The objects of our OpenADR 3 VTN."""
