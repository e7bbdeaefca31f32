//! Limits of expressions, with what each costs.

/// Longest expression, in bytes. It has at most about as many nodes, each of which takes 100 ns once.
pub(super) const EXPRESSION_BYTES_MAX: usize = 4096;
/// Longest text with `${…}`, in bytes; a text without may be longer.
pub(super) const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Most `${…}` of a text.
pub(super) const TEMPLATE_PARTS_MAX: usize = 64;
/// Longest filter, in bytes.
pub(super) const FILTER_BYTES_MAX: usize = 1024;
/// Deepest nesting of an expression. Evaluation recurses: 64 levels, twice as many with the weighing in
/// between, of about 4 KiB in a build without optimization, stay below the 2 MiB of a thread.
pub(super) const DEPTH_MAX: usize = 64;
/// Most brackets inside each other; the parser takes about 15 KiB of stack for each.
pub(super) const PARSER_DEPTH_MAX: u16 = 32;
/// How often the parser goes on behind an error; the first one is told.
pub(super) const PARSER_RECOVERIES_MAX: u32 = 2;
/// Most operators, dots and brackets of an expression, its texts included. The parser recurses for each of a
/// chain.
pub(super) const OPERATORS_MAX: usize = 512;
/// Most macros (`all`, `map`, …) inside each other.
pub(super) const LOOPS_MAX: usize = 2;
/// Most elements that an expression writes out in one list, or asks of `lists.range`.
pub(super) const ELEMENTS_MAX: usize = 1000;
/// Largest value in the midst of an evaluation, in bytes: the 16 KiB of a request's head, as a list of its
/// characters, take 272 KiB.
pub(super) const VALUE_BYTES_MAX: usize = 512 * 1024;
/// What one evaluation may spend. A unit is one node of a macro's body (about 100 ns), or 16 bytes of a
/// value that is copied for it or handed on: 10 ms, and 1.6 MB, at the very worst.
pub(super) const UNITS_MAX: u64 = 100_000;
/// What every evaluation of a policy costs beyond that: about 3 us to begin one.
pub(super) const EVALUATION_UNITS: u64 = 32;
/// Bytes of a value for one unit.
pub(super) const UNIT_BYTES: usize = 16;
/// Longest regular expression, in bytes.
pub(super) const REGEX_BYTES_MAX: usize = 512;
/// Largest compiled regular expression, and its cache while it matches, in bytes.
pub(super) const REGEX_COMPILED_BYTES_MAX: usize = 256 * 1024;
/// Compiled regular expressions that a thread keeps: 16 MB at the very worst, usually 64 times 20 KiB.
pub(super) const REGEX_KEPT_MAX: usize = 64;
