use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::{
    encode::{encoded_bytes, write_weight},
    errors::writing,
    recipe::Recipe,
    tokenizer::{BEGIN, END, PADDING, SPECIAL, TEMPLATE, Vocabulary},
    weights::{Target, weights},
};

impl Recipe {
    /// Writes the model as a Hugging Face model directory with one safetensors file. Fails unless
    /// the quantization is `F32`, `F16` or `BF16`.
    pub fn write_directory(&self, directory: &Path) -> Result<()> {
        ensure!(
            self.quantization.is_float(),
            "safetensors supports F32, F16 and BF16, not {}",
            self.quantization.name()
        );
        self.sizes.check(self.architecture)?;
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let tokenizer = Vocabulary::new(self.sizes.vocabulary).tokenizer_json();
        for (name, document) in [
            ("config.json", self.config_json()),
            ("tokenizer.json", tokenizer),
            ("tokenizer_config.json", tokenizer_config()),
            (
                "generation_config.json",
                json!({"bos_token_id": BEGIN, "eos_token_id": [END, PADDING], "pad_token_id": PADDING}),
            ),
        ] {
            let path = directory.join(name);
            std::fs::write(&path, document.to_string()).with_context(writing(&path))?;
        }
        let path = directory.join("model.safetensors");
        self.write_safetensors(&path).with_context(writing(&path))
    }

    fn write_safetensors(&self, path: &Path) -> Result<()> {
        let weights = weights(self.architecture, &self.sizes);
        let kind = self.quantization.base();
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut start = 0;
        for weight in &weights {
            for (tensor, name) in weight.safetensors.iter().enumerate() {
                let end = start + encoded_bytes(weight, Target::Safetensors(tensor), kind);
                let info = json!({
                    "dtype": kind.name(), "shape": weight.shape, "data_offsets": [start, end]
                });
                header.insert(name.clone(), info);
                start = end;
            }
        }
        let mut header = Value::from(header).to_string();
        // Pads the header to align the data; the length before it has 8 bytes.
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let mut out = BufWriter::new(File::create(path)?);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for weight in &weights {
            for tensor in 0..weight.safetensors.len() {
                write_weight(
                    weight,
                    self.seed,
                    Target::Safetensors(tensor),
                    kind,
                    &mut out,
                )?;
            }
        }
        out.flush()?;
        Ok(())
    }
}

fn tokenizer_config() -> Value {
    let token = |id: u32| SPECIAL.get(id as usize).copied();
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token(BEGIN), "eos_token": token(END), "pad_token": token(PADDING),
        "add_bos_token": false, "add_eos_token": false, "clean_up_tokenization_spaces": false,
        "chat_template": TEMPLATE,
    })
}
