//! Macros: `all`, `exists`, `exists_one`, `filter`, `map` and `sortBy` are loops, and each turn ticks.

use cel::common::ast::operators as op;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use super::Fault;
use super::check::{Walk, call_of};
use super::limits::{LOOPS_MAX, UNIT_BYTES};

/// What the parser calls a loop's result so far. It must stay bare: the interpreter then appends in place.
pub(super) const RESULT: &str = "@result";
/// What `sortBy` becomes.
pub(super) const SORT_BY_KEYS: &str = "@sortByAssociatedKeys";

impl Walk<'_> {
    pub(super) fn comprehension(
        &mut self,
        id: u64,
        mut it: ComprehensionExpr,
        depth: usize,
    ) -> Result<Expr, Fault> {
        if self.names.is_filter() {
            return Err(self.fault(id, "macros are not possible in a filter"));
        }
        // `sortBy` keeps its list in a loop that never turns.
        let turns = !matches!(
            &it.loop_cond.expr,
            Expr::Literal(LiteralValue::Boolean(is)) if !*is.inner()
        );
        it.iter_range = self.handed(it.iter_range, depth)?;
        it.accu_init = self.handed(it.accu_init, depth)?;
        let outer = self.locals.len();
        self.locals.push(it.iter_var.clone());
        self.locals.extend(it.iter_var2.clone());
        self.locals.push(it.accu_var.clone());
        self.loops += usize::from(turns);
        if self.loops > LOOPS_MAX {
            return Err(self.dear(id, format!("macros can be nested {LOOPS_MAX} deep at most")));
        }
        it.loop_cond = self.walk(it.loop_cond, depth + 1)?;
        it.loop_step = self.walk(it.loop_step, depth + 1)?;
        self.loops -= usize::from(turns);
        it.result = self.walk(it.result, depth + 1)?;
        self.locals.truncate(outer);
        if turns {
            let units = units_of(&it.loop_step).max(1);
            if !add_tick(&mut it, units) {
                return Err(self.fault(id, "this macro is not possible here"));
            }
        }
        Ok(Expr::Comprehension(Box::new(it)))
    }
}

/// Has each turn tick, in the place where the interpreter does not overlook an error: it goes on past those
/// of the body of `all` and `exists`, but not past those of the condition; and it appends in place only
/// where the condition is a plain `true`.
fn add_tick(it: &mut ComprehensionExpr, units: u64) -> bool {
    if !matches!(it.loop_cond.expr, Expr::Literal(_)) {
        let condition = std::mem::take(&mut it.loop_cond);
        it.loop_cond = ticking(condition, units);
        return true;
    }
    let Expr::Call(step) = &mut it.loop_step.expr else {
        return false;
    };
    match (step.func_name.as_str(), step.args.as_mut_slice()) {
        (op::CONDITIONAL, [condition, ..]) => {
            let inner = std::mem::take(condition);
            *condition = ticking(inner, units);
            true
        }
        (op::ADD, [_, appended]) => match &mut appended.expr {
            Expr::List(list) => match list.elements.as_mut_slice() {
                [element] => {
                    let inner = std::mem::take(element);
                    *element = ticking(inner, units);
                    true
                }
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

fn ticking(node: IdedExpr, units: u64) -> IdedExpr {
    let units = i64::try_from(units).unwrap_or(i64::MAX);
    let units = IdedExpr {
        id: 0,
        expr: Expr::Literal(LiteralValue::Int(units.into())),
    };
    call_of("@tick", vec![node, units])
}

/// How many nodes a body has; a long text counts as several.
fn units_of(node: &IdedExpr) -> u64 {
    let all = |nodes: &[IdedExpr]| nodes.iter().map(units_of).sum::<u64>();
    1 + match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => {
            u64::try_from(text.inner().len() / UNIT_BYTES).unwrap_or(0)
        }
        Expr::Select(select) => units_of(&select.operand),
        Expr::List(list) => all(&list.elements),
        Expr::Map(map) => map
            .entries
            .iter()
            .map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => units_of(&entry.key) + units_of(&entry.value),
                EntryExpr::StructField(field) => units_of(&field.value),
            })
            .sum(),
        Expr::Call(call) => {
            all(&call.args) + call.target.as_ref().map_or(0, |target| units_of(target))
        }
        Expr::Comprehension(it) => {
            units_of(&it.iter_range)
                + units_of(&it.accu_init)
                + units_of(&it.loop_step)
                + units_of(&it.result)
        }
        _ => 0,
    }
}
