//! Numbers by name, as safetensors: what PyTorch loads, and what is loaded here.

use std::borrow::Cow;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View, serialize};

use crate::net::{Named, Net};

/// A file that does not hold what is wanted of it.
#[derive(Debug, thiserror::Error)]
pub enum BadTensors {
    /// No safetensors at all, or broken ones.
    #[error("it is no intact safetensors file: {0}")]
    Broken(#[from] SafeTensorError),
    /// It lacks something.
    #[error("it holds no tensor named {0:?}")]
    Missing(String),
    /// Something has another type.
    #[error("tensor {name:?} holds {found:?} numbers, not {wanted:?}")]
    Type {
        /// Its name.
        name: String,
        /// What it holds.
        found: Dtype,
        /// What it should hold.
        wanted: Dtype,
    },
    /// Something has another shape.
    #[error("tensor {name:?} has shape {found:?}, where this network has {wanted:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What it should be.
        wanted: Vec<usize>,
    },
    /// Something is there that this network has no place for.
    #[error("it holds a tensor named {0:?}, which this network does not have")]
    Foreign(String),
    /// It cannot hold so many numbers.
    #[error("it is too small for the network that the manifest names")]
    Small,
    /// A NaN, or an infinity.
    #[error("tensor {0:?} holds a number that is not finite")]
    NotFinite(String),
}

/// Tensors to be written.
#[derive(Debug, Default)]
pub struct Tensors(Vec<(String, Tensor)>);

#[derive(Clone, Debug)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

impl Tensors {
    /// Adds F32 numbers.
    pub fn f32(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        numbers: impl IntoIterator<Item = f32>,
    ) {
        self.push(
            name.into(),
            Dtype::F32,
            shape,
            numbers.into_iter().flat_map(f32::to_le_bytes).collect(),
        );
    }

    /// Adds F64 numbers.
    pub fn f64(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        numbers: impl IntoIterator<Item = f64>,
    ) {
        self.push(
            name.into(),
            Dtype::F64,
            shape,
            numbers.into_iter().flat_map(f64::to_le_bytes).collect(),
        );
    }

    /// Adds U64 numbers.
    pub fn u64(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        numbers: impl IntoIterator<Item = u64>,
    ) {
        self.push(
            name.into(),
            Dtype::U64,
            shape,
            numbers.into_iter().flat_map(u64::to_le_bytes).collect(),
        );
    }

    fn push(&mut self, name: String, dtype: Dtype, shape: &[usize], data: Vec<u8>) {
        let shape = shape.to_vec();
        self.0.push((name, Tensor { dtype, shape, data }));
    }

    /// Adds a network's numbers by name, each name behind `prefix`.
    pub fn network(&mut self, prefix: &str, net: &Net, numbers: &[f32]) {
        for Named { name, shape, at } in net.named() {
            self.f32(
                format!("{prefix}{name}"),
                &shape,
                at.iter().map(|&at| numbers[at]),
            );
        }
    }

    /// The file.
    ///
    /// # Errors
    /// If two tensors have the same name, or a shape is not that of its numbers.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BadTensors> {
        let tensors = self.0.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Ok(serialize(tensors, None)?)
    }
}

/// Tensors that were read.
#[derive(Debug)]
pub struct Read<'a>(SafeTensors<'a>);

impl<'a> Read<'a> {
    /// Checks a whole file.
    ///
    /// # Errors
    /// If it is none of safetensors, or broken.
    pub fn new(file: &'a [u8]) -> Result<Self, BadTensors> {
        Ok(Self(SafeTensors::deserialize(file)?))
    }

    /// There is a tensor of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, BadTensors> {
        let tensor = self
            .0
            .tensor(name)
            .map_err(|_| BadTensors::Missing(name.to_owned()))?;
        Ok(tensor.shape().to_vec())
    }

    /// The F32 numbers of a tensor.
    ///
    /// # Errors
    /// If there is none of this name, or it holds others.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, BadTensors> {
        Ok(chunks(self.bytes(name, Dtype::F32)?)
            .map(f32::from_le_bytes)
            .collect())
    }

    /// The F64 numbers of a tensor.
    ///
    /// # Errors
    /// If there is none of this name, or it holds others.
    pub fn f64(&self, name: &str) -> Result<Vec<f64>, BadTensors> {
        Ok(chunks(self.bytes(name, Dtype::F64)?)
            .map(f64::from_le_bytes)
            .collect())
    }

    /// The U64 numbers of a tensor.
    ///
    /// # Errors
    /// If there is none of this name, or it holds others.
    pub fn u64(&self, name: &str) -> Result<Vec<u64>, BadTensors> {
        Ok(chunks(self.bytes(name, Dtype::U64)?)
            .map(u64::from_le_bytes)
            .collect())
    }

    /// The I64 numbers of a tensor.
    ///
    /// # Errors
    /// If there is none of this name, or it holds others.
    pub fn i64(&self, name: &str) -> Result<Vec<i64>, BadTensors> {
        Ok(chunks(self.bytes(name, Dtype::I64)?)
            .map(i64::from_le_bytes)
            .collect())
    }

    fn bytes(&self, name: &str, wanted: Dtype) -> Result<&'a [u8], BadTensors> {
        let tensor = self
            .0
            .tensor(name)
            .map_err(|_| BadTensors::Missing(name.to_owned()))?;
        let found = tensor.dtype();
        if found != wanted {
            let name = name.to_owned();
            return Err(BadTensors::Type {
                name,
                found,
                wanted,
            });
        }
        Ok(tensor.data())
    }

    /// A network's numbers by name, each name behind `prefix`. Everything is checked before anything is changed.
    ///
    /// # Errors
    /// If one is missing, or has another shape, or is not finite.
    pub fn network(&self, prefix: &str, net: &Net, numbers: &mut [f32]) -> Result<(), BadTensors> {
        let named = net.named();
        let mut read = Vec::with_capacity(named.len());
        for Named { name, shape, .. } in &named {
            let name = format!("{prefix}{name}");
            let found = self.shape(&name)?;
            if found != *shape {
                let wanted = shape.clone();
                return Err(BadTensors::Shape {
                    name,
                    found,
                    wanted,
                });
            }
            let tensor = self.f32(&name)?;
            if !tensor.iter().all(|x| x.is_finite()) {
                return Err(BadTensors::NotFinite(name));
            }
            read.push(tensor);
        }
        for (Named { at, .. }, tensor) in named.iter().zip(read) {
            for (at, x) in at.iter().zip(tensor) {
                numbers[*at] = x;
            }
        }
        Ok(())
    }

    /// Nothing is there but a network and what `known` says.
    ///
    /// # Errors
    /// If something is; the error names it.
    pub fn only(&self, net: &Net, known: impl Fn(&str) -> bool) -> Result<(), BadTensors> {
        let named = net.named();
        let mut names = self.0.names();
        names.sort_unstable();
        let foreign = |name: &&&str| !known(name) && named.iter().all(|named| named.name != **name);
        match names.iter().find(foreign) {
            Some(name) => Err(BadTensors::Foreign((*name).to_owned())),
            None => Ok(()),
        }
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    let (chunks, _) = bytes.as_chunks();
    chunks.iter().copied()
}
