"""Room openadr3: the wire of OpenADR 3.1.0 and 3.0.1, both ends. Import from here only."""
