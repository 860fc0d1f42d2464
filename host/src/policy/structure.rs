//! What can be told of a component before it is compiled, at the cost of reading it once: whether compiling it can be
//! worth beginning. Nested modules and components count like the outermost.
//!
//! A compiler can be stopped waiting for, but not be stopped, and nothing bounds what memory it takes. A function of a few
//! KiB can make it take all there is: it keeps an own copy of each local variable that is assigned on the way to a place
//! where control flow meets, for each way there. These copies are counted here, from above: see [`Meetings`].

use wasmparser::{BinaryReaderError, BlockType, CompositeInnerType, FunctionBody, Operator, Parser, Payload, RecGroup};

use super::component::{EXPORTED_INTERFACES, IMPORTS, PACKAGE, bare, same_version};
use super::fault::PolicyError;
use super::limits;

/// Refuses what no compiler should be given.
///
/// # Errors
/// [`PolicyError`], whose message names the bound.
pub(super) fn check(bytes: &[u8]) -> Result<(), PolicyError> {
    let (mut functions, mut exports) = (0, Vec::new());
    // The function types of each component and module that is open.
    let mut open = vec![Vec::new()];
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                if open.len() > limits::NESTING_MAX {
                    return Err(PolicyError::NestedTooDeeply);
                }
                open.push(Vec::new());
            }
            Payload::End(_) => {
                open.pop();
            }
            // Of the outermost component: those of others are its own affair.
            Payload::ComponentImportSection(imports) if open.len() == 1 => {
                for import in imports {
                    check_import(import.map_err(malformed)?.name.name)?;
                }
            }
            Payload::ComponentExportSection(section) if open.len() == 1 => {
                for export in section {
                    exports.push(export.map_err(malformed)?.name.name);
                }
            }
            Payload::TypeSection(groups) => {
                for group in groups {
                    if let Some(types) = open.last_mut() {
                        add_types(types, &group.map_err(malformed)?)?;
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                functions += 1;
                if functions > limits::FUNCTIONS_MAX {
                    return Err(PolicyError::TooManyFunctions);
                }
                check_function(&body, open.last().map_or(&[], Vec::as_slice))?;
            }
            _ => {}
        }
    }
    check_exports(&exports)
}

/// Refuses an import that no policy has. Its functions are checked with their types, once it is compiled.
fn check_import(name: &str) -> Result<(), PolicyError> {
    if !IMPORTS.iter().any(|(interface, _)| bare(name) == format!("{PACKAGE}{interface}")) {
        return Err(PolicyError::ForbiddenImport { name: name.to_owned() });
    }
    if same_version(name) { Ok(()) } else { Err(PolicyError::OtherVersion { name: name.to_owned() }) }
}

/// Refuses a component that does not export what every policy exports.
fn check_exports(exports: &[&str]) -> Result<(), PolicyError> {
    for interface in EXPORTED_INTERFACES {
        let name = format!("{PACKAGE}{interface}");
        match exports.iter().find(|export| bare(export) == name) {
            None => return Err(PolicyError::MissingExport { name }),
            Some(export) if !same_version(export) => {
                return Err(PolicyError::OtherVersion { name: (*export).to_owned() });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn malformed(error: BinaryReaderError) -> PolicyError {
    PolicyError::Compile { reason: error.to_string() }
}

/// How many values a function type takes and gives; a block's type may be one, too.
#[derive(Clone, Copy, Default)]
struct Arity {
    parameters: usize,
    results: usize,
}

fn add_types(types: &mut Vec<Arity>, group: &RecGroup) -> Result<(), PolicyError> {
    for kind in group.types() {
        let arity = match &kind.composite_type.inner {
            CompositeInnerType::Func(function) => {
                Arity { parameters: function.params().len(), results: function.results().len() }
            }
            _ => Arity::default(),
        };
        if arity.results > limits::FUNCTION_RESULTS_MAX {
            return Err(PolicyError::TooManyResults { results: arity.results });
        }
        types.push(arity);
    }
    Ok(())
}

fn check_function(body: &FunctionBody<'_>, types: &[Arity]) -> Result<(), PolicyError> {
    let bytes = body.range().len();
    if bytes > limits::FUNCTION_BYTES_MAX {
        return Err(PolicyError::FunctionTooLarge { bytes });
    }
    let mut meetings = Meetings::default();
    for operator in body.get_operators_reader().map_err(malformed)? {
        meetings.follow(&operator.map_err(malformed)?, types).map_err(malformed)?;
        if meetings.copies > limits::FUNCTION_COPIES_MAX {
            return Err(PolicyError::FunctionTooTangled);
        }
    }
    Ok(())
}

/// The places of a function where control flow meets: the end of each block, the beginning of each loop. For each, the
/// ways that lead there, times the values that may differ between them: the local variables that are assigned in that
/// block or loop, and its own parameters or results.
#[derive(Default)]
struct Meetings {
    copies: usize,
    /// Blocks and loops that are open, the innermost last.
    open: Vec<Open>,
    /// When each local was last assigned: 0 for never.
    assigned: Vec<usize>,
    /// How many operators were followed.
    time: usize,
}

struct Open {
    since: usize,
    /// The ways that lead to its meeting.
    ways: usize,
    /// The values that its type carries there.
    carried: usize,
    /// How many locals were assigned in it, and in what is closed within it, for the first time since it was opened.
    assigned: usize,
    /// How many of these its surroundings count already.
    known_outside: usize,
}

impl Meetings {
    fn follow(&mut self, operator: &Operator<'_>, types: &[Arity]) -> Result<(), BinaryReaderError> {
        self.time += 1;
        match operator {
            Operator::Loop { blockty } => self.enter(arity(*blockty, types).parameters),
            Operator::Block { blockty } | Operator::If { blockty } => self.enter(arity(*blockty, types).results),
            Operator::TryTable { try_table } => {
                self.enter(arity(try_table.ty, types).results);
                try_table.catches.iter().for_each(|_| self.way_to(0));
            }
            Operator::Else => self.way_to(0),
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth } => self.way_to(*relative_depth),
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    self.way_to(target?);
                }
                self.way_to(targets.default());
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => self.assign(*local_index),
            Operator::End => self.leave(),
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, carried: usize) {
        self.open.push(Open { since: self.time, ways: 1, carried, assigned: 0, known_outside: 0 });
    }

    fn way_to(&mut self, depth: u32) {
        let place = usize::try_from(depth).ok().and_then(|depth| self.open.len().checked_sub(depth + 1));
        if let Some(open) = place.and_then(|place| self.open.get_mut(place)) {
            open.ways += 1;
        }
    }

    fn assign(&mut self, local: u32) {
        let Ok(local) = usize::try_from(local) else { return };
        if local >= LOCALS_MAX {
            return;
        }
        if local >= self.assigned.len() {
            self.assigned.resize(local + 1, 0);
        }
        let before = std::mem::replace(&mut self.assigned[local], self.time);
        // It is new to what was opened since.
        let outermost = self.open.partition_point(|open| open.since <= before);
        if outermost < self.open.len() {
            self.open[outermost].known_outside += 1;
            if let Some(innermost) = self.open.last_mut() {
                innermost.assigned += 1;
            }
        }
    }

    fn leave(&mut self) {
        // The last `end` is the function's own, where nothing but its results is left.
        let Some(closed) = self.open.pop() else { return };
        self.copies = self.copies.saturating_add(closed.ways.saturating_mul(closed.assigned + closed.carried));
        if let Some(outside) = self.open.last_mut() {
            outside.assigned += closed.assigned - closed.known_outside;
        }
    }
}

/// More locals no function may have by the rules of the format: the compiler refuses it.
const LOCALS_MAX: usize = 50_000 + 1_000;

fn arity(kind: BlockType, types: &[Arity]) -> Arity {
    match kind {
        BlockType::Empty => Arity::default(),
        BlockType::Type(_) => Arity { parameters: 0, results: 1 },
        // A type that does not exist is refused by the compiler.
        BlockType::FuncType(number) => {
            usize::try_from(number).ok().and_then(|number| types.get(number)).copied().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The copies of one function with 64 locals and these operators.
    fn copies(text: &str) -> usize {
        let text =
            format!("(module (type (func (param i32 i32) (result i32))) (func (local {}) {text}))", "i32 ".repeat(64));
        let module = wat::parse_str(text).unwrap();
        let mut meetings = Meetings::default();
        let mut types = Vec::new();
        for payload in Parser::new(0).parse_all(&module) {
            match payload.unwrap() {
                Payload::TypeSection(groups) => {
                    groups.into_iter().for_each(|group| add_types(&mut types, &group.unwrap()).unwrap())
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader().unwrap() {
                        meetings.follow(&operator.unwrap(), &types).unwrap();
                    }
                }
                _ => {}
            }
        }
        assert!(meetings.open.is_empty());
        meetings.copies
    }

    #[test]
    fn each_way_to_a_meeting_counts_each_local_assigned_before_it_once() {
        let set = |local: usize| format!("(local.set {local} (i32.const 1))");
        assert_eq!(copies(&set(1)), 0);
        assert_eq!(copies(&format!("(block {} {} {})", set(1), set(2), set(1))), 2);
        // The end, and two branches there.
        assert_eq!(copies(&format!("(block (br_if 0 (i32.const 1)) (br_if 0 (i32.const 1)) {})", set(1))), 3);
        assert_eq!(copies(&format!("(block (br_table 0 0 1 0 (i32.const 1)) {})", set(1))), 4);
        assert_eq!(copies(&format!("(if (i32.const 1) (then {}) (else {}))", set(1), set(2))), 4);
        // The inner one is assigned in both; what is assigned outside only, or before, in one.
        assert_eq!(copies(&format!("(block (block {}) {})", set(1), set(2))), 1 + 2);
        assert_eq!(copies(&format!("{} (block (block {}) {})", set(1), set(1), set(1))), 1 + 1);
        assert_eq!(copies(&format!("(block {} (block {}) (block {}))", set(1), set(1), set(2))), 1 + 1 + 2);
        // What a block hands on.
        assert_eq!(copies("(drop (block (result i32) (i32.const 1)))"), 1);
        assert_eq!(copies("(i32.const 1) (i32.const 1) (loop (type 0) (drop)) (drop)"), 2);
    }

    #[test]
    fn a_deep_function_costs_no_more_than_its_size_to_check() {
        let deep = format!("{}{}{}", "block ".repeat(30_000), "i32.const 1 local.set 1 ", "end ".repeat(30_000));
        assert_eq!(copies(&deep), 30_000);
    }
}
