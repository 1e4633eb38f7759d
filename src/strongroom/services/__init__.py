"""The only place that joins parts: what a primary, a media server and a client agent are made of."""
