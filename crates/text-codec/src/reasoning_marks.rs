use reasoning::Format;

use crate::token_table::TokenTable;

/// How the model writes its reasoning, with those of its marks that are special tokens.
pub(crate) struct ReasoningMarks {
    pub format: Format,
    special: Vec<(u32, &'static str)>,
}

impl ReasoningMarks {
    /// Detects the format. Corrects `end_tokens`: in some formats, a token that ends the output
    /// of other models only separates messages.
    pub fn detect(template: &str, table: &TokenTable, end_tokens: &mut Vec<u32>) -> Option<Self> {
        let format = Format::detect(template, |text| table.has(text))?;
        let ids = |names: &[&'static str]| -> Vec<(u32, &'static str)> {
            let named = names.iter();
            named
                .filter_map(|name| Some((table.special_id(name)?, *name)))
                .collect()
        };
        let added = ids(format.end_tokens());
        if !added.is_empty() {
            let separators = ids(format.separators());
            end_tokens.retain(|id| separators.iter().all(|(separator, _)| separator != id));
        }
        end_tokens.extend(added.into_iter().map(|(id, _)| id));
        Some(Self {
            special: ids(&format.marks()),
            format,
        })
    }

    /// Text of a special token that is a mark.
    pub fn text(&self, id: u32) -> Option<&'static str> {
        let found = self.special.iter().find(|(special, _)| *special == id);
        found.map(|(_, text)| *text)
    }
}
