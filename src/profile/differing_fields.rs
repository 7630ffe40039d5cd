//! Which request fields have another value in each request, so that no stored response is ever used again: the operator is told once.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use http::{HeaderName, HeaderValue};

/// So many values, all different, show that a field differs in each request.
const DIFFERENT_VALUES: usize = 64;
/// Fields that are watched. The names come from callers.
const MOST_FIELDS: usize = 64;

/// The values of keyed fields in requests that went upstream. Of each value only a hash is kept: at most 32 KiB in all, names aside.
#[derive(Debug, Default)]
pub struct DifferingFields {
    watched: Mutex<Vec<FieldValues>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct FieldValues {
    name: HeaderName,
    /// Hashes of the values since one was repeated; full once the operator was told.
    values: Vec<u64>,
}

impl DifferingFields {
    /// Notes a field of a request that the store did not answer, and says whether the operator is to be told of it now.
    pub fn note(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let value = self.hasher.hash_one(value.as_bytes());
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(field) = watched.iter_mut().find(|field| field.name == *name) else {
            if watched.len() < MOST_FIELDS {
                watched.push(FieldValues { name: name.clone(), values: vec![value] });
            }
            return false;
        };
        if field.values.len() == DIFFERENT_VALUES {
            return false;
        }
        if field.values.contains(&value) {
            field.values.clear();
        }
        field.values.push(value);
        field.values.len() == DIFFERENT_VALUES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(fields: &DifferingFields, name: &'static str, value: usize) -> bool {
        fields.note(&HeaderName::from_static(name), &HeaderValue::from(value))
    }

    #[test]
    fn a_field_that_always_differs_is_told_of_once() {
        let fields = DifferingFields::default();
        let told: Vec<usize> = (0..1_000).filter(|number| notes(&fields, "x-unique", *number)).collect();
        assert_eq!(told, [DIFFERENT_VALUES - 1]);
    }

    #[test]
    fn a_field_whose_values_recur_is_not_told_of() {
        let fields = DifferingFields::default();
        assert!((0..1_000).all(|number| !notes(&fields, "x-tenant", number % (DIFFERENT_VALUES - 1))));
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        let fields = DifferingFields::default();
        for number in 0..10 * MOST_FIELDS {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            fields.note(&name, &HeaderValue::from_static("1"));
        }
        assert_eq!(fields.watched.lock().unwrap().len(), MOST_FIELDS);
    }
}
