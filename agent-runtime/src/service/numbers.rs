//! Numbers out of JSON, flattened as they are read: nested arrays of any shape never stand in memory.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// How deep arrays may lie in each other.
const MOST_DEPTH: usize = 10;

/// Numbers in the order in which they were written; `true` is 1 and `false` is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers(pub Vec<f32>);

/// The same of several observations, or masks: where they are rows, each has as many numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rows(pub(super) Numbers);

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, true).map(Self)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, false)
    }
}

fn read<'de, D: Deserializer<'de>>(deserializer: D, even: bool) -> Result<Numbers, D::Error> {
    let mut numbers = Vec::new();
    let flat = Flat {
        numbers: &mut numbers,
        depth: 0,
        even,
    };
    serde::de::DeserializeSeed::deserialize(flat, deserializer)?;
    Ok(Numbers(numbers))
}

/// Reads one number that is finite in 32 bits, too.
///
/// # Errors
/// If it is none.
pub(super) fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let value = f64::deserialize(deserializer)?;
    let finite = Some(value as f32).filter(|value| value.is_finite());
    finite.ok_or_else(|| {
        D::Error::custom(format!(
            "expected a finite number of 32 bits, found {value:e}"
        ))
    })
}

struct Flat<'a> {
    numbers: &'a mut Vec<f32>,
    depth: usize,
    /// What is in this array has as many numbers each.
    even: bool,
}

impl<'de> serde::de::DeserializeSeed<'de> for Flat<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Flat<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or an array of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.depth == MOST_DEPTH {
            return Err(A::Error::custom(format!(
                "arrays within arrays, more than {MOST_DEPTH} deep"
            )));
        }
        let Flat {
            numbers,
            depth,
            even,
        } = self;
        let (mut before, mut first) = (numbers.len(), None);
        while items
            .next_element_seed(Flat {
                numbers,
                depth: depth + 1,
                even: false,
            })?
            .is_some()
        {
            let width = numbers.len() - before;
            let first = *first.get_or_insert(width);
            if even && width != first {
                return Err(A::Error::custom(format!(
                    "rows of different lengths: the first has {first} numbers, another {width}"
                )));
            }
            before = numbers.len();
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.numbers.push(f32::from(u8::from(value)));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.numbers.push(value as f32);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.numbers.push(value as f32);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let value = value as f32;
        if !value.is_finite() {
            return Err(E::custom("a number that is not finite in 32 bits"));
        }
        self.numbers.push(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<f32>, String> {
        serde_json::from_str::<Numbers>(text)
            .map(|numbers| numbers.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn whatever_the_shape_the_numbers_come_in_their_order() {
        assert_eq!(read("3"), Ok(vec![3.0]));
        assert_eq!(
            read("[[1, 2.5], [[-3]], true]"),
            Ok(vec![1.0, 2.5, -3.0, 1.0])
        );
        assert_eq!(read("[]"), Ok(vec![]));
    }

    #[test]
    fn rows_have_as_many_numbers_each() {
        let read = |text| serde_json::from_str::<Rows>(text).map(|rows| rows.0.0);
        assert_eq!(read("[1, 2]").expect("rows"), [1.0, 2.0]);
        assert_eq!(
            read("[[1, [2]], [[3, 4]]]").expect("rows"),
            [1.0, 2.0, 3.0, 4.0]
        );
        for text in ["[[1, 2, 3], [4, 5, 6, 7, 8]]", "[[1, 2], []]", "[[], [1]]"] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains("rows of different lengths"), "{error}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (text, said) in [
            ("\"1\"", "expected a number"),
            ("[1, null]", "expected a number"),
            ("[1e39]", "not finite"),
            ("[NaN]", "expected value"),
            (&"[".repeat(11), "more than 10 deep"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
