"""The one place that joins listeners, contexts, module hosts and the log."""
