//! What is known of connections: records, close reasons, metrics, the table of live connections, node commands.
