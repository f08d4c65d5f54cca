@real
Feature: Worker binaries are built, downloaded, verified, kept and replaced
  The keeper, the queen and the hive with real builds by cargo from git repositories. The worker that
  is built is small: it starts the mock worker of this release.

  # Build

  Scenario: A worker binary is built, verified, and used by workers that start from then on
    Given a repository with the worker tiny-worker-rbee 0.3.0
    And a running queen
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository`
    Then the exit code is 0
    And stdout contains `tiny-worker-rbee 0.3.0-1 is ready`
    And stderr contains `running cargo build`
    And stderr contains `compiling tiny-worker-rbee`
    And stderr contains `verifying tiny-worker-rbee by running it`
    When I run `rbee-keeper worker-binary list`
    Then stdout contains `0.3.0-1`
    When I run `rbee-keeper --json worker-binary show tiny-worker-rbee`
    Then stdout contains `"status": "ready"`
    And stdout contains `"current": true`
    And stdout contains `"compatible": false`
    And the file `{home}/workers/tiny-worker-rbee/0.3.0-1/files/tiny-worker-rbee` exists
    And nothing is left of a build

  Scenario: A worker is built with the features that its program requires
    Given a repository with the worker tiny-worker-rbee 0.3.0 that needs the feature gpu
    And a running queen
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository`
    Then the exit code is 0
    And stderr contains `--bin tiny-worker-rbee --features gpu`
    And stdout contains `tiny-worker-rbee 0.3.0-1 is ready`

  Scenario: An installed binary is used at once, and built again only on request
    Given a repository with the worker tiny-worker-rbee 0.3.0
    And a running queen
    And I ran `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository`
    When the repository is moved away
    And I run `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository`
    Then the exit code is 0
    And stdout contains `tiny-worker-rbee 0.3.0-1 is ready`
    And stderr does not contain `cargo`
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository --force-rebuild`
    Then the exit code is 1
    And the error contains `the build of tiny-worker-rbee failed: git ended with`

  Scenario: The worker of the release needs no build
    Given a running queen
    When I run `rbee-keeper worker-binary provision mock-worker-rbee`
    Then the exit code is 0
    And stdout contains `mock-worker-rbee release is ready`
    And stderr does not contain `cargo`

  @EH-020a
  Scenario: A build that fails shows the compiler's errors and where the log is
    Given a repository with the worker tiny-worker-rbee 0.3.0 that does not compile
    And a running queen
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository`
    Then the exit code is 1
    And the error contains `the build of tiny-worker-rbee failed: cargo ended with`
    And stderr contains `cannot find value`
    And stderr contains `--> src/main.rs:`
    And the hint contains `/logs/build-tiny-worker-rbee.log`
    And the file `{home}/logs/build-tiny-worker-rbee.log` exists
    And nothing is left of a build
    When I run `rbee-keeper worker-binary show tiny-worker-rbee`
    Then the exit code is 1
    And the error contains `tiny-worker-rbee is not installed on this node`

  @EH-020b
  Scenario: A missing CUDA toolkit is reported before anything is fetched
    Given the hive finds only git, cargo and cc
    And a running queen
    When I run `rbee-keeper worker-binary provision llm-cuda-worker-rbee --features cuda --repository file://{dir}/absent`
    Then the exit code is 1
    And the error contains `needs the CUDA toolkit, and this machine has no nvcc`
    And the hint contains `--backend cpu`
    And stderr does not contain `fetching`

  @EH-020b
  Scenario: All missing tools are reported at once
    Given the hive finds only sh
    And a running queen
    When I run `rbee-keeper worker-binary provision llm-cuda-worker-rbee --repository file://{dir}/absent`
    Then the exit code is 1
    And the error contains `no nvcc, nor git, cargo, cc`
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/absent`
    Then the error contains `this machine has no git, no cargo, no cc`

  @EH-020c
  Scenario: A binary that fails its self-test is not installed, and the one before stays
    Given a repository with the worker tiny-worker-rbee 0.3.0
    And a running queen
    And I ran `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository`
    When the repository has the worker tiny-worker-rbee 0.3.1 whose self-test fails
    And I run `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository --force-rebuild`
    Then the exit code is 1
    And the error contains `does not run with --self-test: exit status: 9`
    And stderr contains `the numbers are wrong`
    And the hint contains `worker-binary provision tiny-worker-rbee --force-rebuild`
    And nothing is left of a build
    When I run `rbee-keeper --json worker-binary show tiny-worker-rbee`
    Then stdout contains `"installation": "0.3.0-1"`
    And stdout does not contain `0.3.1`

  Scenario: A repository without the program is refused before the build
    Given a repository with the worker tiny-worker-rbee 0.3.0
    And a running queen
    When I run `rbee-keeper worker-binary provision llm-tpu-worker-rbee --repository file://{dir}/repository`
    Then the exit code is 1
    And the error contains `has no program llm-tpu-worker-rbee`
    And the hint contains `one of its programs: tiny-worker-rbee`
    And stderr does not contain `running cargo build`

  Scenario: Another version than the requested one is refused
    Given a repository with the worker tiny-worker-rbee 0.3.0
    And a running queen
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --version 0.4.0 --repository file://{dir}/repository`
    Then the exit code is 1
    And the error contains `tiny-worker-rbee has version 0.3.0, not 0.4.0`
    And nothing is left of a build

  # Many callers, cancellation

  Scenario: Ten callers of one missing worker share one build, and those who cancel leave it to the others
    Given a repository with the worker tiny-worker-rbee 0.3.0
    And a running queen
    When 10 callers provision tiny-worker-rbee, 4 of which cancel in the middle
    Then 6 of them have the same binary, after one build

  Scenario: Ctrl+C ends a build with all its processes, and leaves nothing
    Given a repository with the worker tiny-worker-rbee 0.3.0 whose build does not end
    And a running queen
    When I start `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository` as build
    And the build runs a program of its own
    And build gets SIGINT
    Then build exits
    And no process of the build is left
    And nothing is left of a build
    When I run `rbee-keeper worker-binary show tiny-worker-rbee`
    Then the exit code is 1

  Scenario Outline: Ctrl+C ends the provisioning within 2 s, and leaves nothing, while it <does what>
    Given a server that does not answer
    And the catalog of the hive is at this server
    And a running queen
    When I start `rbee-keeper worker-binary provision tiny-worker-rbee <source>` as client
    And the server was asked
    And client gets SIGINT
    Then client exits within 2 s
    And the exit code is 130
    And no git process is left
    And nothing is left of a build
    When I run `rbee-keeper worker-binary show tiny-worker-rbee`
    Then the exit code is 1
    And the error contains `tiny-worker-rbee is not installed on this node`

    Examples:
      | does what          | source                                                                                                     |
      | clones             | --repository {server}/repository                                                                           |
      | downloads          | --url {server}/worker --sha256 0000000000000000000000000000000000000000000000000000000000000000             |
      | reads the catalog  | --package tiny-worker-rbee-package --approve                                                                |

  Scenario: Ctrl+C ends the verification with all its processes, and leaves nothing
    Given a server with the worker tiny-worker-rbee 0.5.0 whose self-test does not end
    And a running queen
    When I start `rbee-keeper worker-binary provision tiny-worker-rbee --url {server}/org/repo/resolve/main/tiny-worker-rbee --sha256 {sha256}` as client
    And the build runs a program of its own
    And client gets SIGINT
    Then client exits within 2 s
    And no process of the build is left
    And nothing is left of a build
    When I run `rbee-keeper worker-binary show tiny-worker-rbee`
    Then the exit code is 1
    And the error contains `tiny-worker-rbee is not installed on this node`

  Scenario: What a killed hive was building is ended and removed by the next one
    Given a repository with the worker tiny-worker-rbee 0.3.0 whose build does not end
    And a running queen
    When I start `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository` as build
    And the build runs a program of its own
    And the hive is killed
    And I run `rbee-keeper worker-binary list`
    Then no process of the build is left
    And nothing is left of a build
    And stdout does not contain `tiny-worker-rbee`

  # Workers

  Scenario: A worker whose binary is missing starts after its build
    Given a repository with the worker mock-worker-rbee 0.1.7
    And a running queen whose hive has no worker binaries and builds them from the repository
    When I run `rbee-keeper infer --model mock:length=3 Hi`
    Then the exit code is 0
    When I run `rbee-keeper --json worker-binary show mock-worker-rbee`
    Then stdout contains `"installation": "0.1.7-1"`

  @EH-012a
  Scenario: Without a source, a worker whose binary is missing is refused with the command that builds it
    Given a running queen whose hive has no worker binaries
    When I run `rbee-keeper worker-binary provision mock-worker-rbee`
    Then the exit code is 1
    And the error contains `mock-worker-rbee is not installed`
    And the hint contains `rbee-keeper worker-binary provision mock-worker-rbee --repository URL`

  Scenario: An upgrade leaves running workers alone, new ones run the new version, and a rollback goes back
    Given a repository with the worker mock-worker-rbee 0.1.7
    And a running queen
    And I ran `rbee-keeper worker-binary provision mock-worker-rbee --repository file://{dir}/repository`
    And I ran `rbee-keeper infer --model mock:length=3 Hi`
    When I start `rbee-keeper infer --model mock:length=200,tokens_per_second=50 Hi` as old
    And old has printed something to stdout
    And the repository has the worker mock-worker-rbee 0.1.8
    And I run `rbee-keeper worker-binary provision mock-worker-rbee --repository file://{dir}/repository --force-rebuild`
    Then stdout contains `mock-worker-rbee 0.1.8-1 is ready`
    When I run `rbee-keeper infer --model mock:length=4 Hi`
    Then the exit code is 0
    And workers run from `0.1.7-1` and `0.1.8-1`
    And old exits
    And the exit code is 0
    When I run `rbee-keeper worker-binary remove mock-worker-rbee --version 0.1.7-1`
    Then the exit code is 1
    And the error contains `mock-worker-rbee is in use by`
    When I run `rbee-keeper worker-binary rollback mock-worker-rbee`
    Then stdout contains `new workers run mock-worker-rbee 0.1.7-1`
    When I run `rbee-keeper worker-binary rollback mock-worker-rbee`
    Then stdout contains `new workers run mock-worker-rbee release`
    When I run `rbee-keeper worker-binary rollback mock-worker-rbee`
    Then the exit code is 1
    And the error contains `has no version before the current one`

  Scenario: A worker is replaced by its new version under load, and no request fails
    Given a repository with the worker mock-worker-rbee 0.1.7
    And a running queen
    And I ran `rbee-keeper worker-binary provision mock-worker-rbee --repository file://{dir}/repository`
    And I ran `rbee-keeper infer --model mock:length=150,tokens_per_second=50,slots=2 Hi`
    When the repository has the worker mock-worker-rbee 0.1.8
    And I run `rbee-keeper worker-binary provision mock-worker-rbee --repository file://{dir}/repository --force-rebuild`
    Then stdout contains `mock-worker-rbee 0.1.8-1 is ready`
    And stdout contains `mock-0 still runs mock-worker-rbee 0.1.7-1; replace it with `rbee-keeper worker stop mock-0 --replace``
    When I start `rbee-keeper infer --model mock:length=150,tokens_per_second=50,slots=2 Hi` as one
    And one has printed something to stdout
    And I start `rbee-keeper infer --model mock:length=150,tokens_per_second=50,slots=2 Hi` as two
    And two has printed something to stdout
    And I start `rbee-keeper infer --model mock:length=150,tokens_per_second=50,slots=2 Hi` as waiting
    And I start `rbee-keeper worker stop mock-0 --replace` as replacement
    And I start `rbee-keeper infer --model mock:length=150,tokens_per_second=50,slots=2 Hi` as late
    Then one exits
    And the exit code is 0
    And stderr does not contain `warning`
    And two exits
    And the exit code is 0
    And replacement exits
    And the exit code is 0
    And waiting exits
    And the exit code is 0
    And late exits
    And the exit code is 0
    And workers run from `0.1.8-1`
    When I run `rbee-keeper worker-binary list`
    Then stdout does not contain `still runs`
    When I run `rbee-keeper worker-binary show mock-worker-rbee`
    Then stdout contains `workers     mock-`

  # Download

  Scenario: A download is executable only after its SHA-256 was compared
    Given a server with the worker tiny-worker-rbee 0.5.0
    And a running queen
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --url {server}/org/repo/resolve/main/tiny-worker-rbee --sha256 0000000000000000000000000000000000000000000000000000000000000000`
    Then the exit code is 1
    And the error contains `SHA-256`
    And the worker was not run
    And nothing is left of a build
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --url {server}/org/repo/resolve/main/tiny-worker-rbee --sha256 {sha256}`
    Then the exit code is 0
    And stdout contains `tiny-worker-rbee 0.5.0-1 is ready`

  # The catalog

  Scenario: A damaged database is rebuilt from the files, and a changed binary is not used
    Given a repository with the worker tiny-worker-rbee 0.3.0
    And a running queen
    And I ran `rbee-keeper worker-binary provision tiny-worker-rbee --repository file://{dir}/repository`
    When I run `rbee-keeper queen stop`
    And the database of worker binaries is damaged
    And I run `rbee-keeper worker-binary list`
    Then stdout contains `0.3.0-1`
    And stdout contains `the catalog was rebuilt with 1 worker binaries from disk`
    When the installed tiny-worker-rbee 0.3.0-1 is changed
    And I run `rbee-keeper worker-binary list`
    Then stdout contains `damaged`
    When I run `rbee-keeper worker-binary remove tiny-worker-rbee`
    Then stdout contains `removed 1 version of tiny-worker-rbee: 0.3.0-1`
    And the file `{home}/workers/tiny-worker-rbee/0.3.0-1` does not exist

  # The real worker. This takes long, so only this command runs it:
  # RBEE_WORKSPACE_BUILD=1 cargo xtask bdd 025 --tags @workspace_build

  @slow @workspace_build
  Scenario: A release build of the CPU worker of this workspace is provisioned, and serves
    Given this workspace as the repository
    And a running queen
    When I start `rbee-keeper worker-binary provision llm-cpu-worker-rbee --repository file://{dir}/repository --force-rebuild` as build
    Then build exits within 3600 s
    And the exit code is 0
    And stdout contains `llm-cpu-worker-rbee 0.1.0-1 is ready`
    And stderr contains `verifying llm-cpu-worker-rbee by running it`
    When I run `rbee-keeper infer --model builtin:haiku --max-tokens 4 Hi`
    Then the exit code is 0
    And workers run from `0.1.0-1`

  # Packages

  Scenario: A package is built in a sandbox after the user has agreed, and its worker serves
    Given a package of the worker mock-worker-rbee 0.3.0
    And a running queen
    When I run `rbee-keeper worker-binary provision mock-worker-rbee --package {dir}/package/PKGBUILD`
    Then the exit code is 1
    And the error contains `nobody has agreed to run this PKGBUILD, whose SHA-256 is {pkgbuild_sha256}`
    And stderr contains `--approve {pkgbuild_sha256}`
    When I run `rbee-keeper worker-binary provision mock-worker-rbee --package {dir}/package/PKGBUILD --approve {pkgbuild_sha256}`
    Then the exit code is 0
    And stdout contains `mock-worker-rbee 0.3.0-1 is ready`
    And stderr contains `phase package`
    And the file `{home}/workers/mock-worker-rbee/0.3.0-1/files/usr/bin/mock-worker-rbee` exists
    And the file `{home}/workers/mock-worker-rbee/0.3.0-1/files/usr/bin/alias` exists
    And nothing is left of a build
    When I run `rbee-keeper worker-binary provision mock-worker-rbee --package {dir}/package/PKGBUILD --approve {pkgbuild_sha256}`
    Then the exit code is 0
    And stderr does not contain `phase package`
    When I run `rbee-keeper worker-binary show mock-worker-rbee`
    Then stdout contains `PKGBUILD {pkgbuild_sha256}`
    When I run `rbee-keeper infer --model mock:length=3 Hi`
    Then the exit code is 0
    When I run `rbee-keeper worker-binary remove mock-worker-rbee`
    Then the exit code is 1

  Scenario: A package without the program of the worker is not installed
    Given a package of the worker mock-worker-rbee 0.3.0
    And a running queen
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --package {dir}/package/PKGBUILD --approve {pkgbuild_sha256}`
    Then the exit code is 1
    And the error contains `the package mock-worker-rbee has no program usr/bin/tiny-worker-rbee`
    And nothing is left of a build

  Scenario: A killed hive leaves no process and no file of the package that it was building
    Given a package of the worker mock-worker-rbee 0.3.0 whose build does not end
    And a running queen
    When I start `rbee-keeper worker-binary provision mock-worker-rbee --package {dir}/package/PKGBUILD --approve {pkgbuild_sha256}` as client
    And the build of the package runs a program of its own
    And the hive is killed
    Then client exits within 30 s
    And no process of the package is left
    And nothing is left of a build
