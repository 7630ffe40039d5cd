//! Header fields, parsed once into types. One file per field or family of fields.
