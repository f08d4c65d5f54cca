//! The known formats. Each is described after the chat templates and outputs of its models.

use crate::format::{Arguments, Call, Fields, Item, Layout, ToolFormat};
use Item::{Any, MaybeId, Name, Optional, Text};

const OBJECT: Call = Call::Object {
    begin: "{\"name\": ",
    arguments: ", \"arguments\": ",
};

/// Calls in one section.
const fn section(open: &'static str, between: &'static str, close: &'static str) -> Layout {
    Layout {
        open,
        between: Some(between),
        close,
        each: false,
        list: false,
        unmarked: None,
        prefilled: false,
        text_name: None,
    }
}

/// Calls with marks around each.
const fn each(open: &'static str, between: &'static str, close: &'static str) -> Layout {
    Layout {
        each: true,
        ..section(open, between, close)
    }
}

/// Calls in a list.
const fn list(open: &'static str, between: &'static str, close: &'static str) -> Layout {
    Layout {
        list: true,
        ..section(open, between, close)
    }
}

impl ToolFormat {
    /// `{"name": …, "arguments": …}` as the entire output. For models whose own format is unknown:
    /// it needs no marks, so that every model can be constrained to it.
    pub const GENERAL: Self = Self {
        name: "general",
        marks: &[],
        layout: Layout {
            unmarked: Some('{'),
            ..section("", "\n", "")
        },
        call: OBJECT,
        also: None,
    };

    /// `{"name": …, "parameters": …}` as the entire output or after `<|python_tag|>`: Llama 3.1
    /// and later.
    pub const LLAMA: Self = Self {
        name: "Llama 3",
        marks: &["<|python_tag|>"],
        layout: Layout {
            unmarked: Some('{'),
            ..section("", "; ", "")
        },
        call: Call::Object {
            begin: "{\"name\": ",
            arguments: ", \"parameters\": ",
        },
        also: None,
    };

    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Hermes 2 Pro and later, Qwen 2.5 and
    /// 3, Granite 4, SmolLM3.
    pub const HERMES: Self = Self {
        name: "Hermes",
        marks: &["<tool_call>"],
        layout: each("<tool_call>\n", "\n", "\n</tool_call>"),
        call: OBJECT,
        also: None,
    };

    /// `[TOOL_CALLS]` and a list of objects: Mistral before version 11 of its tokenizer.
    pub const MISTRAL: Self = Self {
        name: "Mistral",
        marks: &["[TOOL_CALLS]"],
        layout: list("[TOOL_CALLS] [", ", ", "]"),
        call: OBJECT,
        also: Some(&MISTRAL_CALL),
    };

    /// `[TOOL_CALLS]name[ARGS]{…}`: Mistral since version 11 of its tokenizer. `[CALL_ID]…` may
    /// precede `[ARGS]`, and `[ARGS]` may be missing.
    pub const MISTRAL_NAMED: Self = Self {
        name: "Mistral with names",
        marks: &["[TOOL_CALLS]"],
        layout: Layout {
            list: true,
            ..each("[TOOL_CALLS]", "", "")
        },
        call: MISTRAL_CALL,
        also: Some(&OBJECT),
    };

    /// `<tool_call><function=name><parameter=key>…`: Qwen3-Coder, Qwen 3.5, Nemotron 3.
    pub const QWEN_XML: Self = Self {
        name: "Qwen3-Coder",
        marks: &["<tool_call>", "<function="],
        layout: each("<tool_call>\n", "\n", "\n</tool_call>"),
        call: Call::Named {
            head: &[Optional("<function="), Name, Text(">\n")],
            arguments: Arguments::Fields(QWEN_PARAMETERS),
            end: &["\n</function>"],
        },
        also: None,
    };

    /// As Qwen3-Coder's, with other marks: Seed-OSS.
    pub const SEED: Self = Self {
        name: "Seed-OSS",
        marks: &["<seed:tool_call>"],
        layout: each("<seed:tool_call>\n", "\n", "\n</seed:tool_call>"),
        call: Call::Named {
            head: &[Text("<function="), Name, Text(">\n")],
            arguments: Arguments::Fields(Fields {
                pad: "",
                ..QWEN_PARAMETERS
            }),
            end: &["\n</function>"],
        },
        also: None,
    };

    /// `<tool_call>name<arg_key>…</arg_key><arg_value>…</arg_value></tool_call>`: GLM 4.5 and
    /// later, Ling, Laguna.
    pub const GLM: Self = Self {
        name: "GLM",
        marks: &["<tool_call>"],
        layout: each("<tool_call>", "\n", ""),
        call: Call::Named {
            head: &[Name],
            arguments: Arguments::Fields(Fields {
                open: "\n<arg_key>",
                key_end: "</arg_key>",
                value: "\n<arg_value>",
                pad: "",
                close: "</arg_value>",
                between: "",
            }),
            end: &["\n</tool_call>"],
        },
        also: None,
    };

    /// As GLM's, in a section and with a suffix to all marks: Hunyuan.
    pub const HUNYUAN: Self = Self {
        name: "Hunyuan",
        marks: &["<tool_calls:opensource>"],
        layout: section(
            "<tool_calls:opensource>\n",
            "\n",
            "\n</tool_calls:opensource>",
        ),
        call: Call::Named {
            head: &[
                Text("<tool_call:opensource>"),
                Name,
                Text("<tool_sep:opensource>"),
            ],
            arguments: Arguments::Fields(Fields {
                open: "\n<arg_key:opensource>",
                key_end: "</arg_key:opensource>",
                value: "\n<arg_value:opensource>",
                pad: "",
                close: "</arg_value:opensource>",
                between: "",
            }),
            end: &["\n</tool_call:opensource>"],
        },
        also: None,
    };

    /// `<minimax:tool_call><invoke name="…"><parameter name="…">…`: MiniMax M2.
    pub const MINIMAX: Self = Self {
        name: "MiniMax M2",
        marks: &["<minimax:tool_call>"],
        layout: section("<minimax:tool_call>\n", "\n", "\n</minimax:tool_call>"),
        call: Call::Named {
            head: &[Text("<invoke name=\""), Name, Text("\">\n")],
            arguments: Arguments::Fields(XML_PARAMETERS),
            end: &["\n</invoke>"],
        },
        also: None,
    };

    /// As MiniMax's, with other marks: Muse.
    pub const ATEM: Self = Self {
        name: "Muse",
        marks: &["<atem:function_calls>"],
        layout: section("<atem:function_calls>\n", "\n", "\n</atem:function_calls>"),
        call: Call::Named {
            head: &[Text("<atem:invoke name=\""), Name, Text("\">\n")],
            arguments: Arguments::Fields(Fields {
                open: "<atem:parameter name=\"",
                close: "</atem:parameter>",
                ..XML_PARAMETERS
            }),
            end: &["\n</atem:invoke>"],
        },
        also: None,
    };

    /// `<function name="…"><param name="…">…</param></function>`: MiniCPM 5.
    pub const MINICPM: Self = Self {
        name: "MiniCPM5",
        marks: &["<function name=\""],
        layout: each("<function name=\"", "\n", ""),
        call: Call::Named {
            head: &[Name, Text("\">")],
            arguments: Arguments::Fields(Fields {
                open: "<param name=\"",
                close: "</param>",
                between: "",
                ..XML_PARAMETERS
            }),
            end: &["</function>"],
        },
        also: None,
    };

    /// `<｜DSML｜function_calls><｜DSML｜invoke name="…">…`: DeepSeek V3.2.
    pub const DSML: Self = Self {
        name: "DeepSeek V3.2",
        marks: &["<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"],
        layout: section(
            "<｜DSML｜function_calls>\n",
            "\n",
            "\n</｜DSML｜function_calls>",
        ),
        call: DSML_CALL,
        also: None,
    };

    /// As DeepSeek V3.2's, with another mark: DeepSeek V4.
    pub const DSML_V4: Self = Self {
        name: "DeepSeek V4",
        marks: &["<｜DSML｜tool_calls>", "<｜DSML｜function_calls>"],
        layout: section("<｜DSML｜tool_calls>\n", "\n", "\n</｜DSML｜tool_calls>"),
        call: DSML_CALL,
        also: None,
    };

    /// Name and JSON in a fenced block, between many marks: DeepSeek V3 and R1.
    pub const DEEPSEEK_V3: Self = Self {
        name: "DeepSeek V3",
        marks: DEEPSEEK_MARKS,
        layout: DEEPSEEK_LAYOUT,
        call: Call::Named {
            head: &[
                Text("<｜tool▁call▁begin｜>"),
                Optional("function<｜tool▁sep｜>"),
                Name,
                Optional("\n```json\n"),
            ],
            arguments: Arguments::Json,
            end: &["\n```", "<｜tool▁call▁end｜>"],
        },
        also: None,
    };

    /// Name and JSON between many marks: DeepSeek V3.1.
    pub const DEEPSEEK_V31: Self = Self {
        name: "DeepSeek V3.1",
        marks: DEEPSEEK_MARKS,
        layout: DEEPSEEK_LAYOUT,
        call: Call::Named {
            head: &[Text("<｜tool▁call▁begin｜>"), Name, Text("<｜tool▁sep｜>")],
            arguments: Arguments::Json,
            end: &["<｜tool▁call▁end｜>"],
        },
        also: None,
    };

    /// `<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{…}`: Kimi K2.
    pub const KIMI: Self = Self {
        name: "Kimi K2",
        marks: &["<|tool_calls_section_begin|>"],
        layout: section(
            "<|tool_calls_section_begin|>",
            "",
            "<|tool_calls_section_end|>",
        ),
        call: Call::Named {
            head: &[
                Text("<|tool_call_begin|>"),
                Optional("functions."),
                Name,
                Any(":0"),
                Text("<|tool_call_argument_begin|>"),
            ],
            arguments: Arguments::Json,
            end: &["<|tool_call_end|>"],
        },
        also: None,
    };

    /// `<|open|>call tool="…" index="1"<|sep|>` with an argument for each key: Kimi K3.
    pub const KIMI_K3: Self = Self {
        name: "Kimi K3",
        marks: &["<|open|>tools<|sep|>"],
        layout: section("<|open|>tools<|sep|>", "", "<|close|>tools<|sep|>"),
        call: Call::Named {
            head: &[
                Text("<|open|>call tool=\""),
                Name,
                Text("\""),
                Any(" index=\"1\""),
                Text("<|sep|>"),
            ],
            arguments: Arguments::Fields(Fields {
                open: "<|open|>argument key=\"",
                key_end: "\"",
                value: "<|sep|>",
                pad: "",
                close: "<|close|>argument<|sep|>",
                between: "",
            }),
            end: &["<|close|>call<|sep|>"],
        },
        also: None,
    };

    /// `<|tool_call:begin|>id<|tool_call:name|>name<|tool_call:args|>{…}`: Solar Open.
    pub const SOLAR: Self = Self {
        name: "Solar Open",
        marks: &["<|tool_calls|>"],
        layout: section("<|tool_calls|>", "", ""),
        call: Call::Named {
            head: &[
                Text("<|tool_call:begin|>"),
                Any("call1"),
                Text("<|tool_call:name|>"),
                Name,
                Text("<|tool_call:args|>"),
            ],
            arguments: Arguments::Json,
            end: &["<|tool_call:end|>"],
        },
        also: None,
    };

    /// A message in the commentary channel to a function: gpt-oss
    /// (<https://github.com/openai/harmony>).
    pub const HARMONY: Self = Self {
        name: "harmony",
        marks: &[
            "<|channel|>commentary to=functions.",
            "<|channel|>analysis to=functions.",
            "<|start|>assistant<|channel|>commentary to=functions.",
            "<|start|>assistant<|channel|>analysis to=functions.",
            "<|start|>assistant to=functions.",
            " to=functions.",
        ],
        layout: Layout {
            between: None,
            ..each("<|channel|>commentary to=functions.", "", "")
        },
        call: Call::Named {
            head: &[Name, Any(" <|constrain|>json"), Text("<|message|>")],
            arguments: Arguments::Json,
            end: &["<|call|>"],
        },
        also: None,
    };

    /// `<function=name>{…}</function>`: Functionary 3.1 and Llama 3.1 with own functions.
    pub const FUNCTIONARY_V31: Self = Self {
        name: "Functionary 3.1",
        marks: &["<function="],
        layout: each("<function=", "", ""),
        call: Call::Named {
            head: &[Name, Text(">")],
            arguments: Arguments::Json,
            end: &["</function>"],
        },
        also: None,
    };

    /// `>>>name` and JSON on the next line, where `>>>all` precedes text: Functionary 3.2.
    pub const FUNCTIONARY_V32: Self = Self {
        name: "Functionary 3.2",
        marks: &[">>>"],
        layout: Layout {
            prefilled: true,
            text_name: Some("all\n"),
            ..each(">>>", "", "")
        },
        call: Call::Named {
            head: &[Name, Optional("\n")],
            arguments: Arguments::Json,
            end: &[],
        },
        also: None,
    };

    /// `<|START_ACTION|>[{"tool_call_id": …, "tool_name": …, "parameters": …}]<|END_ACTION|>`:
    /// Command R7B and later.
    pub const COMMAND_R7B: Self = Self {
        name: "Command R7B",
        marks: &["<|START_ACTION|>"],
        layout: list("<|START_ACTION|>[\n    ", ",\n    ", "\n]<|END_ACTION|>"),
        call: Call::Object {
            begin: "{\"tool_call_id\": \"0\", \"tool_name\": ",
            arguments: ", \"parameters\": ",
        },
        also: None,
    };

    /// A list in a fenced block after `Action:`: Command R and R+.
    pub const COMMAND_R: Self = Self {
        name: "Command R",
        marks: &["Action: ```json", "Action:```json"],
        layout: list("Action: ```json\n[\n    ", ",\n    ", "\n]```"),
        call: Call::Object {
            begin: "{\"tool_name\": ",
            arguments: ", \"parameters\": ",
        },
        also: None,
    };

    /// `<|tool_call|>` and a list of objects: Granite 3.
    pub const GRANITE: Self = Self {
        name: "Granite 3",
        marks: &["<|tool_call|>", "<tool_call>"],
        layout: list("<|tool_call|>[", ", ", "]"),
        call: OBJECT,
        also: None,
    };

    /// A list of objects between marks: Phi-4-mini.
    pub const PHI4_MINI: Self = Self {
        name: "Phi-4-mini",
        marks: &["<|tool_call|>"],
        layout: list("<|tool_call|>[", ", ", "]<|/tool_call|>"),
        call: OBJECT,
        also: None,
    };

    /// A list of objects between marks: Nemotron Nano 2.
    pub const NEMOTRON: Self = Self {
        name: "Nemotron Nano 2",
        marks: &["<TOOLCALL>"],
        layout: list("<TOOLCALL>[", ", ", "]</TOOLCALL>"),
        call: OBJECT,
        also: None,
    };

    /// A list of objects between marks: Apriel.
    pub const APRIEL: Self = Self {
        name: "Apriel",
        marks: &["<tool_calls>"],
        layout: list("<tool_calls>[", ", ", "]</tool_calls>"),
        call: OBJECT,
        also: None,
    };

    /// A line for each object between marks: MiniMax M1.
    pub const MINIMAX_M1: Self = Self {
        name: "MiniMax M1",
        marks: &["<tool_calls>"],
        layout: section("<tool_calls>\n", "\n", "\n</tool_calls>"),
        call: OBJECT,
        also: None,
    };

    /// `functools` and a list of objects: Firefunction, Phi-4-mini in older templates.
    pub const FUNCTOOLS: Self = Self {
        name: "functools",
        marks: &["functools["],
        layout: section("functools[", ", ", "]"),
        call: OBJECT,
        also: None,
    };

    /// An object after a mark: GigaChat 3.1.
    pub const GIGACHAT: Self = Self {
        name: "GigaChat",
        marks: &["<|function_call|>", "function call<|role_sep|>"],
        layout: Layout {
            between: None,
            ..each("<|function_call|>", "", "")
        },
        call: OBJECT,
        also: None,
    };

    /// As GigaChat 3.1's, with the name of a role as mark: GigaChat 3.
    pub const GIGACHAT_ROLE: Self = Self {
        name: "GigaChat 3",
        marks: &[
            "<|message_sep|>\n\nfunction call<|role_sep|>",
            "function call<|role_sep|>",
        ],
        layout: Layout {
            between: None,
            ..each("function call<|role_sep|>\n", "", "")
        },
        call: OBJECT,
        also: None,
    };

    /// A list of objects whose only key is the name: Apertus.
    pub const APERTUS: Self = Self {
        name: "Apertus",
        marks: &["<|tools_prefix|>"],
        layout: list("<|tools_prefix|>[", ", ", "]<|tools_suffix|>"),
        call: Call::Named {
            head: &[Text("{"), Text("\""), Name, Text("\""), Text(": ")],
            arguments: Arguments::Json,
            end: &["}"],
        },
        also: None,
    };

    /// `[f(a=1, b="x")]` as the entire output: Llama 4, and Llama 3.2 without its own template.
    pub const PYTHONIC: Self = Self {
        name: "pythonic",
        marks: &["<|python_start|>"],
        layout: Layout {
            unmarked: Some('['),
            ..list("[", ", ", "]")
        },
        call: PYTHON_CALL,
        also: None,
    };

    /// A list of calls in Python between marks: LFM2.
    pub const LFM2: Self = Self {
        name: "LFM2",
        marks: &["<|tool_call_start|>"],
        layout: list("<|tool_call_start|>[", ", ", "]<|tool_call_end|>"),
        call: PYTHON_CALL,
        also: None,
    };

    /// Calls in Python in a block of code: SmolLM3 with tools for Python.
    pub const SMOLLM3_PYTHON: Self = Self {
        name: "SmolLM3 with Python",
        marks: &["<code>"],
        layout: section("<code>\n", "\n", "\n</code>"),
        call: PYTHON_CALL,
        also: None,
    };

    /// Calls in Python in a block fenced as `tool_code`: Gemma 3.
    pub const GEMMA_CODE: Self = Self {
        name: "Gemma 3",
        marks: &["```tool_code"],
        layout: section("```tool_code\n", "\n", "\n```"),
        call: PYTHON_CALL,
        also: None,
    };

    /// `<|tool_call>call:name{key:value}<tool_call|>`: Gemma 4.
    pub const GEMMA: Self = Self {
        name: "Gemma 4",
        marks: &["<|tool_call>"],
        layout: each("<|tool_call>", "", "<tool_call|>"),
        call: Call::Named {
            head: &[Text("call:"), Name, Text("{")],
            arguments: Arguments::Gemma,
            end: &[],
        },
        also: None,
    };

    /// All known formats.
    pub const ALL: &'static [&'static Self] = &[
        &Self::GENERAL,
        &Self::LLAMA,
        &Self::HERMES,
        &Self::MISTRAL,
        &Self::MISTRAL_NAMED,
        &Self::QWEN_XML,
        &Self::SEED,
        &Self::GLM,
        &Self::HUNYUAN,
        &Self::MINIMAX,
        &Self::ATEM,
        &Self::MINICPM,
        &Self::DSML,
        &Self::DSML_V4,
        &Self::DEEPSEEK_V3,
        &Self::DEEPSEEK_V31,
        &Self::KIMI,
        &Self::KIMI_K3,
        &Self::SOLAR,
        &Self::HARMONY,
        &Self::FUNCTIONARY_V31,
        &Self::FUNCTIONARY_V32,
        &Self::COMMAND_R7B,
        &Self::COMMAND_R,
        &Self::GRANITE,
        &Self::PHI4_MINI,
        &Self::NEMOTRON,
        &Self::APRIEL,
        &Self::MINIMAX_M1,
        &Self::FUNCTOOLS,
        &Self::GIGACHAT,
        &Self::GIGACHAT_ROLE,
        &Self::APERTUS,
        &Self::PYTHONIC,
        &Self::LFM2,
        &Self::SMOLLM3_PYTHON,
        &Self::GEMMA_CODE,
        &Self::GEMMA,
    ];
}

const PYTHON_CALL: Call = Call::Named {
    head: &[Name, Text("(")],
    arguments: Arguments::Python,
    end: &[],
};

const MISTRAL_CALL: Call = Call::Named {
    head: &[Name, MaybeId("[CALL_ID]"), Optional("[ARGS]")],
    arguments: Arguments::Json,
    end: &[],
};

const QWEN_PARAMETERS: Fields = Fields {
    open: "<parameter=",
    key_end: ">",
    value: "",
    pad: "\n",
    close: "</parameter>",
    between: "\n",
};

const XML_PARAMETERS: Fields = Fields {
    open: "<parameter name=\"",
    key_end: "\"",
    value: ">",
    pad: "",
    close: "</parameter>",
    between: "\n",
};

const DSML_CALL: Call = Call::Named {
    head: &[Text("<｜DSML｜invoke name=\""), Name, Text("\">\n")],
    arguments: Arguments::Fields(Fields {
        open: "<｜DSML｜parameter name=\"",
        close: "</｜DSML｜parameter>",
        ..XML_PARAMETERS
    }),
    end: &["\n</｜DSML｜invoke>"],
};

const DEEPSEEK_MARKS: &[&str] = &["<｜tool▁calls▁begin｜>"];
const DEEPSEEK_LAYOUT: Layout = section("<｜tool▁calls▁begin｜>", "\n", "<｜tool▁calls▁end｜>");
