//! What an instance may take of the machine while it lives. The bounds are for an instance as a whole: a component may
//! have many memories and tables, and shares each bound among them.

use wasmtime::ResourceLimiter;

use super::limits;

/// The account of one instance.
#[derive(Debug, Default)]
pub(super) struct Confinement {
    memory_bytes: usize,
    table_elements: usize,
    refused: bool,
}

impl Confinement {
    /// Whether it was refused anything since it began to live.
    pub(super) fn has_refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Confinement {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = Growth { current, desired, maximum, most: limits::MEMORY_BYTES_MAX };
        Ok(growth.grant(&mut self.memory_bytes, &mut self.refused))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = Growth { current, desired, maximum, most: limits::TABLE_ELEMENTS_MAX };
        Ok(growth.grant(&mut self.table_elements, &mut self.refused))
    }

    fn instances(&self) -> usize {
        limits::INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        limits::INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        limits::INSTANCES_MAX
    }
}

/// One memory or table that asks for more.
struct Growth {
    current: usize,
    desired: usize,
    /// Its own, as declared.
    maximum: Option<usize>,
    /// The bound on all of them together.
    most: usize,
}

impl Growth {
    /// Takes the growth from what is left. A refusal is no trap: `memory.grow` and `table.grow` answer -1.
    fn grant(&self, taken: &mut usize, refused: &mut bool) -> bool {
        if self.maximum.is_some_and(|maximum| self.desired > maximum) {
            return false;
        }
        match taken.checked_add(self.desired.saturating_sub(self.current)) {
            Some(total) if total <= self.most => {
                *taken = total;
                true
            }
            _ => {
                *refused = true;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_of_an_instance_share_one_bound() {
        let mut confinement = Confinement::default();
        let half = limits::MEMORY_BYTES_MAX / 2;
        assert!(confinement.memory_growing(0, half, None).unwrap());
        assert!(confinement.memory_growing(0, half - 65_536, None).unwrap());
        assert!(!confinement.memory_growing(half, half + 131_072, None).unwrap() && confinement.has_refused());
        assert!(confinement.memory_growing(half, half + 65_536, None).unwrap());
        assert!(!confinement.memory_growing(0, 65_536, None).unwrap());
        assert!(!confinement.memory_growing(0, usize::MAX, None).unwrap());
    }

    #[test]
    fn what_a_memory_refuses_itself_is_not_counted() {
        let mut confinement = Confinement::default();
        assert!(!confinement.memory_growing(0, 131_072, Some(65_536)).unwrap());
        assert!(!confinement.has_refused());
        assert!(confinement.memory_growing(0, limits::MEMORY_BYTES_MAX, None).unwrap());
    }
}
