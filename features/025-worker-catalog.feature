@real
Feature: Packages are built from a signed catalog
  The keeper, the queen and the hive with catalogs that the writer of this repository has signed.

  Scenario Outline: A package is listed, shown, approved and built, and its worker serves, from <place>
    Given a catalog in <place> with the worker mock-worker-rbee 0.3.0
    And a running queen
    When I run `rbee-keeper worker-binary catalog`
    Then the exit code is 0
    And stdout contains `mock-worker-rbee-package  0.3.0-1`
    And stdout contains `available`
    When I run `rbee-keeper worker-binary catalog mock-worker-rbee-package`
    Then stdout contains `SHA-256 {pkgbuild_sha256}`
    And stdout contains `pkgname=mock-worker-rbee`
    When I run `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package`
    Then the exit code is 1
    And the error contains `nobody has agreed to run the package mock-worker-rbee-package 0.3.0-1`
    And stderr contains `--approve {pkgbuild_sha256}`
    And nothing is left of a build
    When I run `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package --approve {pkgbuild_sha256}`
    Then the exit code is 0
    And stdout contains `mock-worker-rbee 0.3.0-1 is ready`
    And stderr contains `phase package`
    And nothing is left of a build
    When I run `rbee-keeper worker-binary catalog`
    Then stdout contains `installed`
    When I run `rbee-keeper infer --model mock:length=3 Hi`
    Then the exit code is 0
    When I run `rbee-keeper queen stop`
    And I run `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package`
    Then the exit code is 0
    And stderr does not contain `phase package`

    Examples:
      | place       |
      | a directory |
      | a server    |

  Scenario: Who agrees to a package once gets its later versions
    Given a catalog in a directory with the worker mock-worker-rbee 0.3.0
    And a running queen
    And I ran `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package --approve`
    When the catalog has the worker mock-worker-rbee 0.3.1
    And I run `rbee-keeper worker-binary catalog`
    Then stdout contains `outdated`
    When I run `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package`
    Then the exit code is 0
    And stdout contains `mock-worker-rbee 0.3.1-1 is ready`
    When I run `rbee-keeper worker-binary rollback mock-worker-rbee`
    Then stdout contains `new workers run mock-worker-rbee 0.3.0-1`

  Scenario: Who agrees to one text does not agree to the next one
    Given a catalog in a directory with the worker mock-worker-rbee 0.3.0
    And a running queen
    And I ran `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package --approve {pkgbuild_sha256}`
    When the catalog has the worker mock-worker-rbee 0.3.1
    And I run `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package`
    Then the exit code is 1
    And the error contains `nobody has agreed to run the package mock-worker-rbee-package 0.3.1-1`
    When I run `rbee-keeper --json worker-binary show mock-worker-rbee`
    Then stdout contains `"installation": "0.3.0-1"`
    And stdout does not contain `0.3.1`

  Scenario: What is installed stays when its package or the catalog is gone
    Given a catalog in a directory with the worker mock-worker-rbee 0.3.0
    And a running queen
    And I ran `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package --approve`
    When the catalog has no packages
    And I run `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package`
    Then the exit code is 1
    And the error contains `the catalog has no package mock-worker-rbee-package`
    When the catalog is moved away
    And I run `rbee-keeper worker-binary catalog`
    Then the exit code is 1
    And the error contains `cannot read`
    When I run `rbee-keeper worker-binary list`
    Then stdout contains `0.3.0-1`
    When I run `rbee-keeper infer --model mock:length=3 Hi`
    Then the exit code is 0

  Scenario Outline: A catalog that was tampered with is refused, <what>
    Given a catalog in a directory with the worker mock-worker-rbee 0.3.0
    And a running queen
    And I ran `rbee-keeper worker-binary catalog`
    When <what> of the catalog is replaced
    And I run `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package --approve`
    Then the exit code is 1
    And the error contains `<error>`
    And nothing is left of a build
    When I run `rbee-keeper worker-binary list`
    Then stdout does not contain `0.3.0-1`

    Examples:
      | what          | error                          |
      | the index     | is not signed with the key     |
      | the signature | is not signed with the key     |
      | the release   | older than 2                   |
      | the PKGBUILD  | has the SHA-256                |
      | a local file  | has the SHA-256                |

  Scenario Outline: What a release has published is installed, with libraries beside it: <package>
    Given a catalog of the packages of this repository for published releases
    And a running queen
    When I run `rbee-keeper worker-binary provision <type> --package <package> --approve`
    Then the exit code is 0
    And stdout contains `<type> <version> is ready`
    And nothing is left of a build
    When I run `rbee-keeper worker-binary catalog <package>`
    Then stdout contains `sha256sums_x86_64=(`
    And stdout does not contain `SHA256_X86_64@`
    When I run `rbee-keeper --json worker-binary show <type>`
    Then stdout contains `"installation": "<version>"`

    Examples:
      | type                | package                 | version  |
      | llm-cpu-worker-rbee | llm-cpu-worker-rbee-bin | 0.1.0-1  |
      | llama-cpp-cpu       | llama-cpp-cpu-bin       | 9999-1-1 |
      | llama-cpp-vulkan    | llama-cpp-vulkan-bin    | 9999-1-1 |

  Scenario: An engine is verified with the arguments of its package
    Given a catalog in a directory with the engine tiny-engine 7.1
    And a running queen
    When I run `rbee-keeper worker-binary provision tiny-engine --package tiny-engine-package --approve`
    Then the exit code is 0
    And stdout contains `tiny-engine 7.1-1-1 is ready`
    When I run `rbee-keeper worker-binary list`
    Then stdout contains `tiny-engine`
    And stdout does not contain `of another release`
    When I run `rbee-keeper worker-binary remove tiny-engine`
    Then the exit code is 0
    When the catalog has the engine tiny-engine 7.2 that does not run
    And I run `rbee-keeper worker-binary provision tiny-engine --package tiny-engine-package`
    Then the exit code is 1
    And the error contains `does not run with --check: exit status: 3`
    And nothing is left of a build

  Scenario: A build reads the toolchains of the hive, and cannot change them
    Given a catalog in a directory with the worker mock-worker-rbee 0.3.0
    And the hive offers a toolchain, which the package of the catalog needs
    And a running queen
    When I run `rbee-keeper worker-binary provision mock-worker-rbee --package mock-worker-rbee-package --approve`
    Then the exit code is 0
    And stderr contains `made with the toolchain`
    And stdout contains `mock-worker-rbee 0.4.0-1 is ready`

  Scenario: A toolchain that would show the files of the user is refused
    When I run `rbee-hive --port 0 --toolchain /`
    Then the exit code is 2
    And the error contains `builds cannot use the toolchain /: it contains the files of the user`

  Scenario: A package for another type of worker is refused with the command for its own
    Given a catalog in a directory with the worker mock-worker-rbee 0.3.0
    And a running queen
    When I run `rbee-keeper worker-binary provision tiny-worker-rbee --package mock-worker-rbee-package --approve`
    Then the exit code is 1
    And the error contains `provides mock-worker-rbee, not tiny-worker-rbee`
    And the hint contains `provision mock-worker-rbee --package mock-worker-rbee-package`

  Scenario: A node without a catalog says how it gets one
    Given a running queen
    When I run `rbee-keeper worker-binary catalog`
    Then the exit code is 1
    And the error contains `this node has no catalog of packages`
    And the hint contains `--catalog URL --catalog-key KEY`

  Scenario: A catalog without a key is not used
    When I run `rbee-hive --port 0 --catalog file://{dir}/catalog`
    Then the exit code is 2
    And the error contains `has no key to be verified with`
