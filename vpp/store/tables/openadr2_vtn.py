"""What our OpenADR 2.0b VTN must remember over a restart."""
