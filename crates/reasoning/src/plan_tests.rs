use serde_json::json;

use super::*;

fn plan(template: &str, enabled: Option<bool>, effort: Option<&str>, max: Option<u32>) -> Plan {
    let format = Format::detect(template, |_| false).unwrap();
    format.plan(Wish {
        enabled,
        effort,
        max_tokens: max,
    })
}

fn variables(plan: &Plan) -> Value {
    Value::Object(plan.variables.clone())
}

const QWEN: &str = "{% if enable_thinking is defined %}<think></think>";
const HARMONY: &str = "{% if reasoning_effort is undefined %}<|channel|>analysis<|message|>";
const HUNYUAN: &str = "{% if reasoning_effort not in ['high', 'low', 'no_think'] %}</think>";
const ALWAYS: &str = "<think>{{ 1 }}</think>";

#[test]
fn switches_are_set_as_the_template_reads_them() {
    for (template, on, off) in [
        (
            QWEN,
            json!({"enable_thinking": true}),
            json!({"enable_thinking": false}),
        ),
        (
            "{% if not thinking is defined %}{{ enable_thinking }}</think>",
            json!({"enable_thinking": true, "thinking": true}),
            json!({"enable_thinking": false, "thinking": false}),
        ),
        (
            "{% if thinking_mode == 'disabled' %}</mm:think>",
            json!({"thinking_mode": "enabled"}),
            json!({"thinking_mode": "disabled"}),
        ),
        (HUNYUAN, json!({}), json!({"reasoning_effort": "no_think"})),
        (
            "{{ thinking_budget }}</seed:think>",
            json!({}),
            json!({"thinking_budget": 0}),
        ),
    ] {
        let enabled = plan(template, Some(true), None, None);
        assert_eq!(variables(&enabled), on, "{template}");
        assert_eq!(enabled.budget, None);
        let disabled = plan(template, Some(false), None, None);
        assert_eq!(variables(&disabled), off, "{template}");
        assert!(disabled.close_in_prompt && disabled.notes.is_empty());
        assert_eq!(disabled.budget, Some(0));
        for same in [
            plan(template, Some(true), None, Some(0)),
            plan(template, None, Some("none"), None),
        ] {
            assert_eq!(variables(&same), off, "{template}");
        }
        assert_eq!(plan(template, None, None, None), Plan::default());
    }
}

#[test]
fn a_model_without_a_switch_is_stopped_where_it_begins() {
    for (template, expected) in [
        (ALWAYS, json!({})),
        (HARMONY, json!({"reasoning_effort": "low"})),
    ] {
        let plan = plan(template, Some(false), None, None);
        assert_eq!(variables(&plan), expected);
        assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
        assert_eq!(plan.budget, Some(0));
    }
}

#[test]
fn effort_is_the_nearest_word_that_the_model_knows() {
    for (template, effort, expected, notes) in [
        (HARMONY, "high", json!({"reasoning_effort": "high"}), 0),
        (HARMONY, "minimal", json!({"reasoning_effort": "low"}), 1),
        (HARMONY, "xhigh", json!({"reasoning_effort": "high"}), 1),
        (HUNYUAN, "xhigh", json!({"reasoning_effort": "high"}), 1),
        (HARMONY, "a\"b", json!({}), 1),
        // DeepSeek V4 knows one word only.
        (
            "{% if reasoning_effort == 'max' %}</think>",
            "low",
            json!({}),
            1,
        ),
        (QWEN, "low", json!({"enable_thinking": true}), 1),
        (
            "{{ reasoning_effort }}</think>",
            "deep",
            json!({"reasoning_effort": "deep"}),
            0,
        ),
    ] {
        let plan = plan(template, None, Some(effort), None);
        assert_eq!(variables(&plan), expected, "{template} {effort}");
        assert_eq!(plan.notes.len(), notes, "{:?}", plan.notes);
    }
}

#[test]
fn budget_reaches_templates_that_announce_it() {
    let seed = plan("{{ thinking_budget }}</seed:think>", None, None, Some(512));
    assert_eq!(variables(&seed), json!({"thinking_budget": 512}));
    assert_eq!(seed.budget, Some(512));
    let qwen = plan(QWEN, None, None, Some(512));
    assert_eq!((variables(&qwen), qwen.budget), (json!({}), Some(512)));
}
