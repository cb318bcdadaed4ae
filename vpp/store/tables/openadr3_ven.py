"""What our OpenADR 3 VENs must remember over a restart."""
