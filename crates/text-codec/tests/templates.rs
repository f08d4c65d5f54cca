//! Chat templates in the dialect of Hugging Face models.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

use diagnostics::{Code, Diagnostic};
use text_codec::{Codec, Settings};
use worker_contract::{Message, Role};

fn render(template: &str, messages: &[(Role, &str)]) -> Result<String, Diagnostic> {
    let settings = Settings {
        chat_template: Some(template.to_owned()),
        begin_token: Some("<s>".into()),
        end_token: Some("</s>".into()),
        end_tokens: vec![],
        tool_template: None,
        ..Settings::default()
    };
    let tokenizer = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,
        "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
        "model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#;
    let codec = Codec::from_tokenizer_json(tokenizer.as_bytes(), settings).unwrap();
    let messages: Vec<Message> = messages
        .iter()
        .map(|(role, content)| Message::new(*role, *content))
        .collect();
    codec.render_chat(&messages, &[])
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    let template = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m['content'].strip() }}]\n    {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}A:{% endif %}\n";
    let text = render(template, &[(Role::User, " hi "), (Role::Assistant, "x")]).unwrap();
    assert_eq!(text, "<s>\n[hi]\nA:");
}

/// A system message goes in front of the first turn, as Gemma's templates do it.
#[test]
fn turns_are_built_as_gemma_does() {
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
    let error = render(template, &[(user, "a"), (user, "b")]).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(error.message.contains("roles must alternate"), "{error}");
}

#[test]
fn python_is_understood() {
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
fn content_is_never_read_as_a_template() {
    let text = render(
        "{{ messages[0].content }}",
        &[(Role::User, "{{ 1 + 1 }}<b>&")],
    );
    assert_eq!(text.unwrap(), "{{ 1 + 1 }}<b>&");
}

#[test]
fn a_refusal_of_the_template_is_the_callers_error() {
    let template = "{{ raise_exception('roles must alternate') }}";
    let error = render(template, &[(Role::User, "x")]).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(error.message.contains("roles must alternate"), "{error}");
    assert_eq!(error.param.as_deref(), Some("messages"));
}

#[test]
fn a_faulty_template_is_an_error_and_not_the_end() {
    for template in [
        "{% for m in messages %}",
        "{{ messages[0].content.no_such_method() }}",
        "{{ strftime_now('%') }}",
        "{{ 'x' * 1000000000 }}",
    ] {
        let error = render(template, &[(Role::User, "x")]).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile, "{template}: {error}");
    }
    let endless_text = "{% for a in range(9999) %}{{ 'x' * 9999999 }}{% endfor %}";
    let error = render(endless_text, &[]).unwrap_err();
    assert!(
        error.message.contains("more than 33554432 bytes"),
        "{error}"
    );
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    let error = render(endless, &[]).unwrap_err();
    assert!(error.message.contains("does not come to an end"), "{error}");
}

#[test]
fn a_model_without_a_template_says_so() {
    let tokenizer = std::fs::read(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku/tokenizer.json"),
    )
    .unwrap();
    let codec = Codec::from_tokenizer_json(&tokenizer, Settings::default()).unwrap();
    let error = codec.render_chat(&[], &[]).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(error.hint.unwrap().contains("/v1/completions"));
}
