//! Reading a document, YAML or JSON, into plain values; bounded in depth, size and repetition.
