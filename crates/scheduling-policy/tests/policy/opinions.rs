use scheduling_policy::{Opinion, Policy, RequestFacts, ranked};

use crate::{place, policy, refused, request, worker};

fn of(script: &str) -> Opinion {
    let policy = policy(script);
    policy
        .route(&request(), &[worker("w-0")])
        .unwrap()
        .remove(0)
}

#[test]
fn what_a_function_returns_is_an_opinion() {
    for (body, expected) in [
        ("", Opinion::None),
        ("()", Opinion::None),
        ("if request.priority == \"batch\" { 5 }", Opinion::None),
        ("7", Opinion::Score(7.0)),
        ("-2.5", Opinion::Score(-2.5)),
        ("return 3;", Opinion::Score(3.0)),
        ("\"not here\"", refused("not here")),
        ("`not on ${worker.node}`", refused("not on local")),
        (
            "worker.free_slots + gib(1)",
            Opinion::Score(1_073_741_828.0),
        ),
        ("help(worker)", Opinion::Score(4.0)),
    ] {
        let script =
            format!("fn help(worker) {{ worker.slots }}\nfn route(request, worker) {{ {body} }}");
        assert_eq!(of(&script), expected, "{body}");
    }
}

#[test]
fn a_script_sees_every_fact() {
    let request = RequestFacts {
        node: Some("attic".into()),
        parts: vec!["desk".into()],
        ..request()
    };
    let keys = "fn route(request, worker) { let keys = request.keys(); keys += worker.keys(); let all = \"\"; for key in keys { all += key + \" \"; } all }\nfn place(request, place) { let all = \"\"; for key in place.keys() { all += key + \" \"; } all }";
    let policy = policy(keys);
    let routes = policy.route(&request, &[worker("w-0")]).unwrap();
    assert_eq!(
        routes,
        [refused(
            "backend failures model model_bytes node origin parts priority prompt_bytes waiting \
             context_length device free_slots gpu name node prefix rank running slots "
        )]
    );
    let places = policy.place(&request, &[place("attic", "cuda")]).unwrap();
    assert_eq!(
        places,
        [refused(
            "asleep backend broken connecting device free_bytes has_files needs_room node paused rank "
        )]
    );
    for (condition, expected) in [
        ("request.node == \"attic\"", true),
        ("\"desk\" in request.parts", true),
        ("request.parts.len() == 2", false),
        ("request.backend == ()", true),
        ("request.model.starts_with(\"builtin:\")", true),
        ("worker.device == \"GPU-0\"", false),
    ] {
        let script = format!("fn route(request, worker) {{ if {condition} {{ 1 }} }}");
        let opinion = crate::policy(&script)
            .route(&request, &[worker("w-0")])
            .unwrap();
        assert_eq!(opinion[0] == Opinion::Score(1.0), expected, "{condition}");
    }
}

#[test]
fn a_function_that_is_missing_has_no_opinions() {
    let routes = policy("fn route(request, worker) { 1 }");
    assert!(routes.routes() && !routes.places());
    assert_eq!(routes.place(&request(), &[place("a", "cpu")]), Ok(vec![]));
    let places = policy("fn place(request, place) { 1 }");
    assert!(places.places() && !places.routes());
    assert_eq!(places.route(&request(), &[worker("w")]), Ok(vec![]));
}

#[test]
fn higher_scores_come_first_then_the_default_order_then_what_is_refused() {
    let order = |candidates: Vec<(&'static str, Opinion)>, broken: &str| {
        let ranked = ranked(candidates, |name| *name == broken);
        ranked.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let candidates = vec![
        ("no", refused("x")),
        ("a", Opinion::None),
        ("minus", Opinion::Score(-1.0)),
        ("zero", Opinion::Score(0.0)),
        ("plus", Opinion::Score(0.5)),
        ("never", refused("y")),
    ];
    assert_eq!(
        order(candidates.clone(), ""),
        ["plus", "a", "zero", "minus", "no", "never"]
    );
    assert_eq!(
        order(candidates, "plus"),
        ["a", "zero", "minus", "plus", "no", "never"],
        "a score does not repair what is broken"
    );
}

#[test]
fn a_script_that_cannot_be_used_is_refused_with_its_place() {
    for (script, message) in [
        ("fn route(request, worker) { 1 +  }", "line 1, column 34: "),
        (
            "fn route(request, worker) {\n  wrker.slots\n}",
            "line 2, column 3: Undefined variable",
        ),
        (
            "fn route(request) { 1 }",
            "`route` must have two parameters, and it has 1",
        ),
        ("fn rout(request, worker) { 1 }", "the script has neither"),
        ("", "the script has neither"),
        (
            "let x = 1;\nfn route(request, worker) { 1 }",
            "functions only",
        ),
        (
            "fn route(request, worker) { 1 }\nfn route(request, worker) { 2 }",
            "line 2",
        ),
    ] {
        let error = Policy::compile(script).unwrap_err().to_string();
        assert!(error.contains(message), "{script}: {error}");
    }
}
