//! What the network gets of an observation.

use crate::env::Space;

/// How many numbers an observation of this space is to the network.
#[must_use]
pub fn inputs(space: &Space) -> usize {
    match space {
        Space::Box { low, .. } => low.len(),
        Space::Discrete(n) => *n,
        Space::MultiDiscrete(sizes) => sizes.iter().sum(),
        Space::MultiBinary(n) => *n,
    }
}

/// Numbers as they are, an index as one 1 among zeros.
#[allow(
    clippy::cast_sign_loss,
    reason = "an index; what is out of range is no index and leaves zeros"
)]
pub fn encode(space: &Space, observation: &[f32], inputs: &mut [f32]) {
    let mut one_hot = |sizes: &[usize]| {
        let mut rest = &mut *inputs;
        for (size, index) in sizes.iter().zip(observation) {
            let (part, after) = rest.split_at_mut(*size);
            part.fill(0.0);
            if let Some(one) = part.get_mut(*index as usize) {
                *one = 1.0;
            }
            rest = after;
        }
    };
    match space {
        Space::Box { .. } | Space::MultiBinary(_) => inputs.copy_from_slice(observation),
        Space::Discrete(n) => one_hot(&[*n]),
        Space::MultiDiscrete(sizes) => one_hot(sizes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_become_one_hot() {
        let space = Space::MultiDiscrete(vec![3, 2]);
        let mut row = vec![9.0; inputs(&space)];
        encode(&space, &[2.0, 0.0], &mut row);
        assert_eq!(row, [0.0, 0.0, 1.0, 1.0, 0.0]);
        let mut row = vec![9.0; 2];
        encode(&Space::Discrete(2), &[1.0], &mut row);
        assert_eq!(row, [0.0, 1.0]);
    }
}
