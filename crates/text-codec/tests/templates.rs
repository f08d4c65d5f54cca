//! Chat templates in the Jinja dialect of Hugging Face models.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use diagnostics::{Code, Diagnostic};
use serde_json::Map;
use text_codec::{Chat, Codec, CodecSettings};
use worker_contract::{Message, Role};

const ROLES_REJECTED: &str =
    "the model's chat template rejected the messages: roles must alternate";

fn codec(template: &str) -> Codec {
    let settings = CodecSettings {
        chat_template: Some(template.to_owned()),
        bos_token: Some("<s>".into()),
        eos_token: Some("</s>".into()),
        ..CodecSettings::default()
    };
    let tokenizer = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,
        "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
        "model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#;
    Codec::from_tokenizer_json(tokenizer.as_bytes(), settings).unwrap()
}

fn render(template: &str, messages: &[(Role, &str)]) -> Result<String, Diagnostic> {
    let messages: Vec<Message> = messages
        .iter()
        .map(|(role, content)| Message::new(*role, *content))
        .collect();
    codec(template).render_chat(&messages, &[])
}

#[test]
fn trims_blocks_like_transformers() {
    let template = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m['content'].strip() }}]\n    {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}A:{% endif %}\n";
    let text = render(template, &[(Role::User, " hi "), (Role::Assistant, "x")]).unwrap();
    assert_eq!(text, "<s>\n[hi]\nA:");
}

/// Gemma's templates put the system message into the first turn.
#[test]
fn renders_gemma_style_turns() {
    let template = "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}
        {%- if messages[0]['content'] is string -%}
            {%- set prefix = messages[0]['content'] + '; ' -%}
        {%- endif -%}
        {%- set turns = messages[1:] -%}
    {%- else -%}{%- set prefix = '' -%}{%- set turns = messages -%}{%- endif -%}
    {%- for m in turns -%}
        {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
            {{ raise_exception('roles must alternate') }}
        {%- endif -%}
        {%- set role = 'model' if m['role'] == 'assistant' else m['role'] -%}
        {{ '<t>' + role + ':' + (prefix if loop.first else '') }}
        {%- if m['content'] is iterable and m['content'] is not string -%}parts
        {%- else -%}{{ m['content'] | trim }}{%- endif -%}
        {{ '</t>' }}
    {%- endfor -%}
    {%- if add_generation_prompt -%}{{ '<t>model:' }}{%- endif -%}";
    let (system, user, model) = (Role::System, Role::User, Role::Assistant);
    let text = render(
        template,
        &[(system, "s"), (user, " a "), (model, "b"), (user, "c")],
    );
    let expected = "<s><t>user:s; a</t><t>model:b</t><t>user:c</t><t>model:";
    assert_eq!(text.unwrap(), expected);
    let error = render(template, &[(model, "a")]).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(error.message, ROLES_REJECTED);
}

#[test]
fn supports_python_methods_and_filters() {
    let cases = [
        ("{{ messages[0].content.split('-')[1].upper() }}", "B"),
        ("{{ 'x' if 'a' in messages[0].content else 'y' }}", "x"),
        ("{{ messages[0].content.startswith('a') }}", "True"),
        ("{{ messages[0].items() | list | length }}", "2"),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        ),
        (
            "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ loop.index0 }}{% endfor %}",
            "0",
        ),
        (
            "{{ messages[::-1][0].content }}{{ messages[1:] | length }}",
            "z1",
        ),
        (
            "{{ {'a': [1, 2.5, none, true], 'b': '<\"é\">'} | tojson }}",
            "{\"a\": [1, 2.5, null, true], \"b\": \"<\\\"é\\\">\"}",
        ),
        (
            "{{ [{'a': 1}, []] | tojson(indent=2) }}",
            "[\n  {\n    \"a\": 1\n  },\n  []\n]",
        ),
        (
            "{{ tools is none }}{{ tools is defined }}{{ nothing is defined }}",
            "TrueTrueFalse",
        ),
        ("{{ strftime_now('%Y') | int > 2000 }}", "True"),
        ("{{ messages[0].content ~ eos_token }}", "a-b</s>"),
    ];
    for (template, expected) in cases {
        let text = render(template, &[(Role::User, "a-b"), (Role::Assistant, "z")]);
        assert_eq!(text.unwrap(), expected, "{template}");
    }
}

#[test]
fn message_content_is_not_evaluated() {
    let text = render(
        "{{ messages[0].content }}",
        &[(Role::User, "{{ 1 + 1 }}<b>&")],
    );
    assert_eq!(text.unwrap(), "{{ 1 + 1 }}<b>&");
}

#[test]
fn raise_exception_is_a_request_error() {
    let template = "{{ raise_exception('roles must alternate') }}";
    let error = render(template, &[(Role::User, "x")]).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert_eq!(error.message, ROLES_REJECTED);
    assert_eq!(error.param.as_deref(), Some("messages"));
}

#[test]
fn faulty_templates_are_model_errors() {
    for template in [
        "{% for m in messages %}",
        "{{ messages[0].content.no_such_method() }}",
        "{{ strftime_now('%') }}",
        "{{ 'x' * 1000000000 }}",
    ] {
        let error = render(template, &[(Role::User, "x")]).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile, "{template}: {error}");
    }
    let endless_output = "{% for a in range(9999) %}{{ 'x' * 9999999 }}{% endfor %}";
    let error = render(endless_output, &[]).unwrap_err();
    assert_eq!(
        error.message,
        "the model's chat template failed: its output exceeds 33554432 bytes"
    );
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    let error = render(endless, &[]).unwrap_err();
    assert_eq!(
        error.message,
        "the model's chat template failed: it did not finish within 5000000 instructions"
    );
}

#[test]
fn rejects_messages_without_a_chat_template() {
    let tokenizer = std::fs::read(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/tokenizer.json"),
    )
    .unwrap();
    let codec = Codec::from_tokenizer_json(&tokenizer, CodecSettings::default()).unwrap();
    let error = codec.render_chat(&[], &[]).unwrap_err();
    assert_eq!(error.code, Code::NoChatTemplate);
    assert_eq!(error.message, "the model has no chat template");
    assert_eq!(
        error.hint.as_deref(),
        Some("send a plain prompt (`/v1/completions`), or use an instruction-tuned model")
    );
}

/// A template that refuses system messages and wants alternating roles, and one that leaves out
/// system messages.
#[test]
fn a_conversation_in_a_refused_form_is_changed_with_a_note() {
    let strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
        {% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
        {{ raise_exception('alternate') }}{% endif %}[{{ m.content }}]{% endfor %}";
    let dropping = "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}";
    let (system, user, model) = (Role::System, Role::User, Role::Assistant);
    let merged =
        "the chat template takes no system message; it was put before the next user message";
    let joined =
        "the chat template wants alternating roles; consecutive messages of one role were joined";
    for (template, messages, expected, notes) in [
        (strict, vec![(user, "a")], "[a]", vec![]),
        (
            strict,
            vec![(system, "s"), (user, "a")],
            "[s\n\na]",
            vec![merged],
        ),
        (
            strict,
            vec![(user, "a"), (user, "b"), (model, "c")],
            "[a\n\nb][c]",
            vec![joined],
        ),
        (
            strict,
            vec![(system, "s"), (user, "a"), (user, "b")],
            "[s\n\na\n\nb]",
            vec![merged, joined],
        ),
        (
            dropping,
            vec![(system, "s"), (user, "a")],
            "[s\n\na]",
            vec![merged],
        ),
    ] {
        let codec = codec(template);
        let messages: Vec<Message> = messages
            .into_iter()
            .map(|(role, text)| Message::new(role, text))
            .collect();
        let chat = Chat {
            messages: &messages,
            tools: &[],
            variables: &Map::new(),
        };
        let rendered = codec.render(&chat).unwrap();
        assert_eq!(rendered.text, expected);
        assert_eq!(rendered.notes, notes);
    }
}

#[test]
fn expressions_have_the_results_of_python() {
    for (template, expected) in [
        ("{{ none is iterable }}{{ 'a' is iterable }}", "FalseTrue"),
        (
            "{{ [1e-7, 1e16, 1.0, 0.1] | tojson }}{{ 1e16 }}",
            "[1e-07, 1e+16, 1.0, 0.1]1e+16",
        ),
        (
            "{{ {'b': 'é', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true) }}",
            r#"{"a": 1, "b": "\u00e9"}"#,
        ),
        (
            "{{ {'a': [1, 2]} | tojson(separators=(',', ':')) }}",
            r#"{"a":[1,2]}"#,
        ),
        (
            "{{ 'a b c'.rsplit(' ', 1) }}{{ 'a-b'.partition('-') }}",
            "['a b', 'c']('a', '-', 'b')",
        ),
        (
            "{{ '%s: %d' % ('a', 3) }}{{ 'ab'.removeprefix('a') }}{{ 'ab'.index('b') }}",
            "a: 3b1",
        ),
        (
            "{{ [1, 2, 3][0:2:-1] }}{{ [][::-1] }}{{ 'abc'[::-1] }}",
            "[][]cba",
        ),
        (
            "{% generation %}a{% endgeneration %}{{ 'x\r\ny' | length }}",
            "a3",
        ),
        (
            "{{ raise_exception is callable }}{{ 'a' is callable }}",
            "TrueFalse",
        ),
        (
            "{% set d = {'items': 1} %}{% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}",
            "items1",
        ),
        ("{{ +1 }}{{ -1 | abs }}{{ 1 < 2 < 3 }}", "11True"),
        (
            "{{ range(4)[1:] }}{{ range(5)[::-2] | list }}{{ range(3).index(2) }}",
            "range(1, 4)[4, 2, 0]2",
        ),
        (
            "{{ 1e22 is even }}{{ 1.5 is odd }}{{ 1e22 is lower }}",
            "TrueFalseTrue",
        ),
        (
            "{{ 'one two three' | truncate(6) }}{{ 'a%s' | format(1) }}",
            "one...a1",
        ),
        ("{{ 0 | map('string') | list }}{{ missing | sum }}", "[]0"),
        (
            "{% autoescape true %}{{ '<' }}{% endautoescape %}{{ '<' }}",
            "&lt;<",
        ),
    ] {
        assert_eq!(
            render(template, &[(Role::User, "x")]).unwrap(),
            expected,
            "{template}"
        );
    }
}

/// Templates that would exhaust the memory or the stack.
#[test]
fn hostile_templates_end_with_an_error() {
    let nested = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
    let chained = format!("{{{{ 1{} }}}}", " | abs".repeat(100_000));
    for template in [
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('', 'aaaaaaaa') %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
        "{{ 'a'.center(999999999999) }}",
        &nested,
        &chained,
    ] {
        let error = render(template, &[(Role::User, "x")]).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
    }
}
