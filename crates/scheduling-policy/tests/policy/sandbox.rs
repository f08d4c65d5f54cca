//! Attempts to do more than compute, and to compute too much.

use scheduling_policy::{Opinion, Policy, PolicyFailure, limits};

use crate::{policy, request, worker};

fn route(script: &str) -> Result<Vec<Opinion>, PolicyFailure> {
    policy(script).route(&request(), &[worker("w-0")])
}

/// Runs `body` in the function `route`. Returns why it failed, wherever it did.
fn failure(body: &str) -> String {
    let script = format!(
        "fn deep(n) {{ if n == 0 {{ 0 }} else {{ 1 + deep(n - 1) }} }}\n\
         fn route(request, worker) {{ {body} }}"
    );
    match Policy::compile(&script) {
        Err(error) => error.to_string(),
        Ok(policy) => match policy.route(&request(), &[worker("w-0")]) {
            Err(failure) => failure.to_string(),
            Ok(opinions) => panic!("{body} returned {opinions:?}"),
        },
    }
}

#[test]
fn nothing_but_computing_is_possible() {
    for body in [
        "eval(\"1\")",
        "import \"x\" as x; 1",
        "print(\"x\"); 1",
        "debug(\"x\"); 1",
        "sleep(1); 1",
        "timestamp()",
        "open_file(\"/etc/passwd\")",
        "exit(1)",
        "rand()",
        "let f = Fn(\"deep\"); f.call(1)",
        "call(\"deep\", 1)",
        "parse_json(\"{}\")",
        "set_tag(1, 2); 1",
        "blob(10); 1",
        "global::x",
        "this.x",
    ] {
        let message = failure(body);
        let is_unknown = [
            "reserved",
            "disabled",
            "not found",
            "Undefined",
            "bound",
            "Expecting",
            "Module",
            "module",
            "import",
        ];
        assert!(
            is_unknown.iter().any(|text| message.contains(text)),
            "{body}: {message}"
        );
    }
}

#[test]
fn a_script_that_computes_too_much_is_ended() {
    let operations = "a decision may take 50000 operations";
    for (body, expected) in [
        ("loop { }", operations),
        ("while true { let x = 1; } 1", operations),
        (
            "let x = 0; for i in 0..9223372036854775807 { x = i; } 1",
            operations,
        ),
        (
            "let x = 0; for i in range(0, 9223372036854775807) { x = i; } 1",
            operations,
        ),
        ("deep(1000)", "more than 12 calls inside calls"),
        ("let s = \"x\"; loop { s += s; }", "ength of string"),
        (
            "let s = \"x\"; s.pad(1000000000, 'x'); 1",
            "ength of string",
        ),
        ("let a = []; loop { a.push(1); }", "ize of array"),
        ("let a = []; a.pad(1000000000, 1); 1", "ize of array"),
        ("let a = [1]; loop { a += a; }", "ize of array"),
        (
            "let a = []; for i in 0..20 { let b = []; b.pad(90, 1); a.push(b); } 1",
            "ize of array",
        ),
        ("let a = [0]; loop { a = [a, a]; }", "ize of array"),
        (
            "let m = #{}; loop { m = #{a: m, b: m}; }",
            "ize of object map",
        ),
        (
            "let m = #{}; for i in 0..1000 { m.set(`k${i}`, 1); } 1",
            "ize of object map",
        ),
        (
            "let a = []; for i in 0..90 { let s = \"x\"; s.pad(1000, 'x'); a.push(s); } 1",
            "ength of string",
        ),
    ] {
        let message = failure(body);
        assert!(message.contains(expected), "{body}: {message}");
    }
}

/// Rhai does not check the size of what is assigned to.
#[test]
fn only_variables_can_be_assigned_to() {
    for body in [
        "let m = #{}; m[\"x\"] = 1; 1",
        "let m = #{}; m.x = 1; 1",
        "let m = #{x: 1}; m.x += 1; 1",
        "let a = [1]; if true { for i in 0..1 { a[i] = 1; } } 1",
        "let a = [[1]]; a[0][0] = 1; 1",
        "let m = #{x: [1]}; m.x[0] = 1; 1",
        "worker.slots = 1",
    ] {
        let message = failure(body);
        assert!(
            message.starts_with("line 2, column ") && message.contains("only variables"),
            "{body}: {message}"
        );
    }
}

#[test]
fn the_operations_of_a_decision_are_limited_over_all_candidates() {
    let script = policy("fn route(request, worker) { let x = 0; for i in 0..1000 { x = i; } 1 }");
    let few: Vec<_> = (0..5).map(|n| worker(&format!("w-{n}"))).collect();
    assert_eq!(script.route(&request(), &few).unwrap().len(), 5);
    let many: Vec<_> = (0..1000).map(|n| worker(&format!("w-{n}"))).collect();
    let Err(failure) = script.route(&request(), &many) else {
        panic!("not limited")
    };
    assert!(failure.message.contains("over all candidates"), "{failure}");
    assert_ne!(failure.candidate, "w-0");
    assert_eq!(
        script.route(&request(), &few).unwrap().len(),
        5,
        "each decision has its own limit"
    );
}

#[test]
fn a_wrong_result_is_a_failure() {
    for (body, expected) in [
        ("1 / 0", "ivision by zero"),
        ("9223372036854775807 + 1", "overflow"),
        ("0.0 / 0.0", "the score NaN is not a number"),
        ("1.0 / 0.0", "the score inf is not a number"),
        ("true", "it returned a value of type bool"),
        ("[1]", "it returned a value of type array"),
        ("worker", "it returned a value of type map"),
        ("'x'", "it returned a value of type char"),
        ("\"\"", "a refusal must have a reason"),
        ("\"  \"", "a refusal must have a reason"),
        ("worker.free", "roperty not found: free"),
        ("worker.name - 1", "unction not found: - ("),
        ("throw \"no\"", "no"),
        ("nothing(1)", "unction not found: nothing"),
        ("deep(2, 3)", "unction not found: deep"),
        ("let a = [1]; a[5]", "ndex"),
    ] {
        let message = failure(body);
        assert!(message.contains(expected), "{body}: {message}");
    }
}

#[test]
fn a_failure_says_where() {
    let failure = route("fn route(request, worker) {\n  let x = 0;\n  1 / x\n}").unwrap_err();
    assert_eq!(
        failure.to_string(),
        "`route` failed for w-0: line 3, column 5: Division by zero: 1 / 0"
    );
}

#[test]
fn a_script_cannot_be_larger_or_deeper_than_its_limits() {
    let large = format!(
        "fn route(request, worker) {{ 1 }} //{}",
        "x".repeat(limits::SCRIPT_BYTES)
    );
    let error = Policy::compile(&large).unwrap_err().to_string();
    assert!(error.contains("at most 65536 are allowed"), "{error}");
    for deep in ["(", "[", "- ", "if true {", "! "] {
        let script = format!("fn route(request, worker) {{ {} 1", deep.repeat(5000));
        let error = Policy::compile(&script).unwrap_err().to_string();
        assert!(error.contains("exceeds"), "{deep}: {error}");
    }
    let functions = (0..200).map(|n| format!("fn f{n}() {{ 1 }}\n"));
    let functions = functions.collect::<Vec<_>>().concat();
    let error = Policy::compile(&functions).unwrap_err().to_string();
    assert!(error.contains("functions"), "{error}");
}

/// The deepest calls of the deepest expressions, on a smaller stack than any thread of the queen has.
#[test]
fn the_deepest_script_fits_into_the_stack() {
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let run = thread.spawn(|| {
        let nested = |depth: usize| {
            let (open, close) = ("(1 + ".repeat(depth), ")".repeat(depth));
            format!(
                "fn deep(n) {{ if n == 0 {{ 0 }} else {{ {open} deep(n - 1) {close} }} }}\n\
                 fn route(request, worker) {{ deep(worker.slots) }}"
            )
        };
        let deepest = (1..100).rev().map(nested);
        let script = deepest.flat_map(|script| Policy::compile(&script)).next();
        let script = script.unwrap();
        for levels in 0..40 {
            let mut worker = worker("w-0");
            worker.slots = levels;
            let result = script.route(&request(), &[worker]);
            assert_eq!(result.is_ok(), levels < 12, "{levels}: {result:?}");
        }
    });
    run.unwrap().join().unwrap();
}

#[test]
fn the_same_facts_have_the_same_opinion() {
    let script = policy(
        "fn route(request, worker) { let all = \"\"; for key in #{b: 1, a: 2, c: 3}.keys() { all += key; } all }",
    );
    let first = script.route(&request(), &[worker("w-0")]).unwrap();
    assert_eq!(first, [Opinion::Refused("abc".into())]);
}
