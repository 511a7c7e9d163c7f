//! Numbers out of JSON, flattened as they are read: nested arrays of any shape never stand in memory.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// How deep arrays may lie in each other.
const MOST_DEPTH: usize = 10;

/// Numbers in the order in which they were written; `true` is 1 and `false` is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers(pub Vec<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut numbers = Vec::new();
        serde::de::DeserializeSeed::deserialize(
            Flat {
                numbers: &mut numbers,
                depth: 0,
            },
            deserializer,
        )?;
        Ok(Self(numbers))
    }
}

struct Flat<'a> {
    numbers: &'a mut Vec<f32>,
    depth: usize,
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
        let Flat { numbers, depth } = self;
        while items
            .next_element_seed(Flat {
                numbers,
                depth: depth + 1,
            })?
            .is_some()
        {}
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
