"""Who wants to be told of what at our OpenADR 3 VTN, and what is still to be told."""
