use std::{ops::ControlFlow, sync::Arc};

use text_codec::{Codec, ToolFormat};
use tool_calls::{Functions, Part, ToolCallParser};
use worker_contract::{FinishReason, InferRequest, ToolCallPiece};

use crate::{admission::Admitted, calls::CallIds};

/// The tool calls of one output.
pub(super) struct ToolCalls {
    parser: ToolCallParser,
    ids: CallIds,
    /// Number of calls so far.
    count: u32,
    /// The output must be a single call.
    forced: bool,
    /// The output may continue after its first call.
    parallel: bool,
}

impl ToolCalls {
    /// Returns `None` if the output has no tool calls, and no syntax of them.
    pub fn new(
        request: &InferRequest,
        admitted: &Admitted,
        seed: u64,
        codec: &Codec,
    ) -> Option<Self> {
        let may_call = request.may_call();
        let forced = request.tool_choice.must_call() && may_call;
        let format = match codec.tool_format() {
            Some(format) if may_call || format.layout.prefilled => format,
            None if forced => &ToolFormat::GENERAL,
            _ => return None,
        };
        let offered = request.tools.iter().filter(|_| may_call);
        let functions = offered.map(|tool| (tool.name.clone(), tool.parameters.clone()));
        Some(Self {
            parser: ToolCallParser::new(format, Arc::new(Functions::new(functions))),
            ids: CallIds::new(&admitted.prompt, seed, request.sampling.choice),
            count: 0,
            forced,
            parallel: request.parallel_tool_calls && !forced,
        })
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    /// Splits text into parts.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.parser.push(text)
    }

    /// Returns the parts that are held back at the end of an output that the model ended.
    pub fn finish(&mut self) -> Vec<Part> {
        let parts = self.parser.finish();
        self.without_text(parts)
    }

    /// Returns the parts that are held back where an output was cut off.
    pub fn cut_off(&mut self) -> Vec<Part> {
        let parts = self.parser.cut_off();
        self.without_text(parts)
    }

    /// An output that must be a call has no text.
    fn without_text(&self, mut parts: Vec<Part>) -> Vec<Part> {
        if self.forced {
            parts.retain(|part| !matches!(part, Part::Text(_)));
        }
        parts
    }

    /// Appends a part of a call to `pieces`. Breaks if the output ends with this call.
    pub fn apply(
        &mut self,
        part: Part,
        pieces: &mut Vec<ToolCallPiece>,
    ) -> ControlFlow<FinishReason> {
        match part {
            Part::Begin(name) => {
                pieces.push(ToolCallPiece {
                    index: self.count,
                    id: Some(self.ids.id(self.count)),
                    name: Some(name),
                    arguments: String::new(),
                });
                self.count += 1;
            }
            Part::Arguments(arguments) => {
                let index = self.count.saturating_sub(1);
                match pieces.last_mut() {
                    Some(last) if last.index == index => last.arguments.push_str(&arguments),
                    _ => pieces.push(ToolCallPiece {
                        index,
                        id: None,
                        name: None,
                        arguments,
                    }),
                }
            }
            Part::End if !self.parallel => return ControlFlow::Break(FinishReason::ToolCalls),
            Part::End | Part::Text(_) => {}
        }
        ControlFlow::Continue(())
    }
}
