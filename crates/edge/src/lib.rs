//! The edge: listeners, admission, routing, pools, agent sessions and the story of a connection.
