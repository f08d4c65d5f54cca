//! The patterns in the OpenAPI documents describe what parsing accepts.

use std::str::FromStr;

use proptest::{prelude::*, string::string_regex, test_runner::TestRunner};
use regex::Regex;
use utoipa::{
    PartialSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    BinaryVersion, BranchName, DeviceId, FeatureName, HostKeyFingerprint, JobId, ModelAlias,
    ModelRef, NodeName, NodeUrl, PackageId, RepositoryUrl, RequestId, SshHost, SshUser, WorkerId,
    WorkerType,
};

fn pattern<T: PartialSchema>() -> String {
    let RefOr::T(Schema::Object(object)) = T::schema() else {
        panic!("not an object");
    };
    object.pattern.unwrap()
}

/// Generates matching and other texts and compares the pattern with the parser.
fn compare<T: PartialSchema + FromStr>(other: &str) {
    let pattern = pattern::<T>();
    let regex = Regex::new(&pattern).unwrap();
    // Generators do not support anchors.
    let matching = string_regex(&pattern[1..pattern.len() - 1]).unwrap();
    let texts = prop_oneof![matching, string_regex(other).unwrap()];
    TestRunner::new(ProptestConfig::with_cases(500))
        .run(&texts, |text| {
            prop_assert_eq!(
                text.parse::<T>().is_ok(),
                regex.is_match(&text),
                "{:?}",
                text
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn patterns_match_what_parsing_accepts() {
    compare::<WorkerId>("[A-Za-z0-9_./-]{0,66}");
    compare::<JobId>("[A-Za-z0-9_./-]{0,66}");
    compare::<RequestId>("[A-Za-z0-9_./-]{0,130}");
    compare::<NodeName>("[a-zA-Z0-9_-]{0,65}");
    compare::<DeviceId>("[CcGg][Pp][Uu]-?[+-]?0{0,3}[0-9]{0,6}");
    compare::<NodeUrl>("https?://(a|\\[:\\])?:[0-9]{0,6}/?");
    compare::<SshHost>("[A-Za0-9_.:@ -]{0,12}");
    compare::<SshUser>("[A-Za0-9_.:@ -]{0,12}");
    compare::<WorkerType>("[A-Za-z0-9_./-]{0,66}");
    compare::<PackageId>("[A-Za-z0-9_./-]{0,66}");
    compare::<BinaryVersion>("[A-Za-z0-9_.+~/ -]{0,66}");
    compare::<FeatureName>("[A-Za-z0-9_.+, /-]{0,66}");
    compare::<BranchName>("[A-Za0-9_.:@/# -]{0,12}");
    compare::<RepositoryUrl>("((https?|git|ssh|file|ext)://?)?[a@:/.-]{0,9}");
    compare::<HostKeyFingerprint>("SHA256:[a+/=]{40,46}");
    compare::<ModelAlias>("[A-Za0-9_.:/-]{0,12}");
    compare::<ModelRef>(
        "(builtin|file|mock|hf|ollama|x):[A-Za-z0-9@=,_-]{0,12}|(hf|ollama):[a.:@/]{0,9}|file:(/[a.\u{0}\u{85}]{0,3}){0,4}",
    );
}
