Feature: Packages are built from PKGBUILDs in a sandbox
  Real bubblewrap, fakeroot, git and tar. What a recipe does beyond its folders fails, and a build
  that uses more than it may is stopped.

  # What is built

  Scenario: All functions of a recipe run, and its files are listed
    Given the file `{dir}/recipe/greeting.txt` holds
      """
      hello
      """
    And a recipe of tool with
      """
      source=(greeting.txt)
      sha256sums=({sha256 of greeting.txt})
      prepare() { cp greeting.txt prepared; }
      pkgver() { echo 1.2.r5; }
      build() { echo "$pkgver of $pkgname for $CARCH" > built; }
      check() { grep -q 1.2.r5 built; }
      package() {
        install -Dm755 built "$pkgdir/usr/bin/tool"
        install -Dm640 prepared "$pkgdir/usr/share/tool/greeting.txt"
        ln -s ../../bin/tool "$pkgdir/usr/share/tool/link"
        chown root:root "$pkgdir/usr/bin/tool"
        chmod u+s "$pkgdir/usr/bin/tool"
      }
      """
    When the package is built
    Then the package tool has the version 1.2.r5-1
    And the package contains
      | usr/bin/tool                | 755 | 1.2.r5 of tool for x86_64 |
      | usr/share/tool/greeting.txt | 640 | hello                     |
      | usr/share/tool/link         | ->  | ../../bin/tool            |
    And the phases were evaluate, fetch, verify, extract, prepare, pkgver, build, check, package, list
    And the work folder contains the package only

  Scenario: Values that only bash knows are evaluated in the sandbox
    Given a recipe of tool with
      """
      _parts=(7 8)
      for part in "${_parts[@]}"; do _all+="$part."; done
      pkgver=${_all%.}
      pkgdesc="$(printf 'made by %s' bash)"
      package() { echo "$pkgdesc" > "$pkgdir/description"; }
      """
    When the package is built
    Then the package tool has the version 7.8-1
    And the package contains
      | description | 644 | made by bash |

  Scenario: One of several packages is built, and must be chosen
    Given the recipe
      """
      pkgname=(first second)
      pkgver=1
      pkgrel=2
      epoch=3
      arch=(any)
      package_first() { echo "$pkgname" > "$pkgdir/name"; }
      package_second() { echo "$pkgname" > "$pkgdir/name"; }
      """
    When the package is built
    Then the build fails with PACKAGE_INVALID
    And the error of the build contains `choose one of `first`, `second``
    When the package second is built
    Then the package second has the version 3:1-2
    And the package contains
      | name | 644 | second |

  Scenario: A machine that a package is not for is refused with its name
    Given the recipe
      """
      pkgname=tool
      pkgver=1
      pkgrel=1
      arch=(riscv64 aarch64)
      package() { :; }
      """
    When the package is built
    Then the build fails with PACKAGE_INVALID
    And the error of the build contains `it is for riscv64, aarch64, and this machine is x86_64`

  Scenario Outline: A failed step is reported with the error of its compiler and the log, <step>
    Given a recipe of tool with
      """
      <step>() { echo "main.c:7: error: no such thing"; echo later; false; }
      """
    When the package is built
    Then the build fails with BUILD_FAILED
    And the error of the build contains `<step> failed: exit status: 1`
    And the error of the build contains `main.c:7: error: no such thing`
    And the log of the build contains `later`
    And nothing of the build is left

    Examples:
      | step    |
      | prepare |
      | build   |
      | check   |
      | package |

  Scenario: Programs that are missing are reported together, before anything runs
    Given a recipe of tool with
      """
      makedepends=(cuda hipcc 'meson>=1' glibc)
      build() { false; }
      """
    When the package is built
    Then the build fails with BUILD_TOOLS_MISSING
    And the error of the build contains `nvcc, hipcc, meson`
    And the error of the build contains `apt-get install nvidia-cuda-toolkit hipcc meson`
    And nothing of the build is left

  Scenario: A missing CUDA toolkit has a code of its own
    Given a recipe of tool with
      """
      makedepends=(cuda)
      """
    When the package is built
    Then the build fails with CUDA_TOOLKIT_MISSING

  Scenario: A toolchain outside of the system compiles in the sandbox
    Given builds may use the Rust toolchain of this user
    And a recipe of tool with
      """
      build() {
        echo 'fn main() { println!("made by rustc"); }' > main.rs
        rustc main.rs -o tool
      }
      check() { ./tool; }
      package() { install -Dm755 tool "$pkgdir/bin/tool"; }
      """
    When the package is built
    Then the package contains the path bin/tool
    And the log of the build contains `made by rustc`

  Scenario: A build knows the generation of the GPU, which it does not see
    Given the GPU of this machine has the compute capability 8.6
    And a recipe of tool with
      """
      build() { echo "for ${CUDA_COMPUTE_CAP}" > built; }
      package() { install -Dm644 built "$pkgdir/usr/share/tool/gpu"; }
      """
    When the package is built
    Then the package contains
      | usr/share/tool/gpu | 644 | for 86 |

  # Sources

  Scenario: Sources of a server are continued, renamed and verified
    Given a file server with `/data.bin` of 3000000 bytes
    And the file server cuts the first response after 100000 bytes
    And a recipe of tool with
      """
      source=("renamed.bin::{server}/data.bin")
      sha256sums=({sha256 of data.bin})
      package() { wc -c < renamed.bin > "$pkgdir/size"; }
      """
    When the package is built
    Then the package contains
      | size | 644 | 3000000 |
    And the file server has sent less than 3200000 bytes

  Scenario Outline: A checksum that is wrong ends the build before anything runs, <sums>
    Given the file `{dir}/recipe/data` holds
      """
      unexpected
      """
    And a recipe of tool with
      """
      source=(data)
      <sums>sums=($(printf 'a%.0s' {1..<digits>}))
      prepare() { echo ran; }
      """
    When the package is built
    Then the build fails with CHECKSUM_MISMATCH
    And the error of the build contains `of data is`
    And the log of the build does not contain `ran`
    And nothing of the build is left

    Examples:
      | sums   | digits |
      | sha256 | 64     |
      | sha512 | 128    |
      | b2     | 128    |

  Scenario: A file without a checksum is refused unless the user permits it
    Given the file `{dir}/recipe/data` holds
      """
      anything
      """
    And a recipe of tool with
      """
      source=(data)
      sha256sums=(SKIP)
      package() { cp data "$pkgdir/data"; }
      """
    When the package is built
    Then the build fails with PACKAGE_INVALID
    And the error of the build contains `a file whose checksum is skipped`
    When the package is built, and files without a checksum are permitted
    Then the package contains
      | data | 644 | anything |
    Given a recipe of tool with
      """
      source=(data)
      """
    When the package is built, and files without a checksum are permitted
    Then the build fails with PACKAGE_INVALID
    And the error of the build contains `has no checksums`

  Scenario Outline: A git repository is checked out at <what>
    Given a git repository with the tag v1 and the branch next
    And a recipe of tool with
      """
      source=("code::git+file://{dir}/repository<fragment>")
      sha256sums=(SKIP)
      pkgver() { cd code; echo "r$(git rev-list --count HEAD)"; }
      package() { cp code/file "$pkgdir/file"; }
      """
    When the package is built
    Then the package tool has the version <version>-1
    And the package contains
      | file | 644 | <content> |

    Examples:
      | what        | fragment         | version | content |
      | its default |                  | r2      | second  |
      | a tag       | #tag=v1          | r1      | first   |
      | a branch    | #branch=next     | r3      | third   |
      | a commit    | #commit={commit} | r1      | first   |

  Scenario Outline: Archives are extracted, <name>
    Given the archive <name> with
      | folder/file | content |
    And a recipe of tool with
      """
      source=(<name>)
      sha256sums=({sha256 of <name>})
      package() { cp folder/file "$pkgdir/file"; }
      """
    When the package is built
    Then the package contains
      | file | 644 | content |

    Examples:
      | name      |
      | a.tar     |
      | a.tar.gz  |
      | a.tar.xz  |
      | a.tar.bz2 |
      | a.tar.zst |
      | a.zip     |

  Scenario: Archives that the recipe names are not extracted
    Given the archive a.tar.gz with
      | folder/file | content |
    And a recipe of tool with
      """
      source=(a.tar.gz)
      noextract=(a.tar.gz)
      sha256sums=({sha256 of a.tar.gz})
      package() { test ! -e folder; cp a.tar.gz "$pkgdir"; }
      """
    When the package is built
    Then the package contains the path a.tar.gz

  # What a recipe cannot do

  Scenario: Nothing runs without the user's approval of this text
    Given a recipe of tool with
      """
      touch {dir}/evil; pkgdesc=$(touch {dir}/evil)
      """
    When the package is built without approval
    Then the build fails with PACKAGE_NOT_APPROVED
    And the error of the build contains the SHA-256 of the recipe
    When the package is built with the approval of another text
    Then the build fails with PACKAGE_NOT_APPROVED
    And the file `{dir}/evil` does not exist
    And nothing of the build is left

  Scenario Outline: A recipe cannot write outside its folders, <place>
    Given a recipe of tool with
      """
      <step>() { echo before; echo x > <place>; echo after; }
      """
    When the package is built
    Then the build fails with BUILD_FAILED
    And the log of the build contains `before`
    And the log of the build does not contain `after`
    And the file `<place>` does not exist

    Examples:
      | step    | place              |
      | build   | {dir}/evil         |
      | package | {dir}/evil         |
      | build   | {home}/evil        |
      | build   | /usr/rbee-evil     |
      | package | /etc/rbee-evil     |
      | build   | /rbee-evil         |
      | build   | /dev/rbee-evil     |
      | build   | /build/rbee-evil   |
      | build   | /build/pkg/evil    |

  Scenario: A recipe sees neither the user's files nor the hive's tokens nor their environment
    Given the file `{home}/token-of-the-hive` holds
      """
      secret
      """
    And a recipe of tool with
      """
      build() {
        test ! -e {home}/token-of-the-hive
        test -z "$(find / -name token-of-the-hive 2>/dev/null)"
        test -z "$(ls -A /root /home /run /var /srv /mnt /media /sys 2>/dev/null)"
        test "$HOME" = /build/home
        ! env | grep CARGO_MANIFEST_DIR
        test "$(id -un)" = builder
        ! grep -r secret /proc/[0-9]*/environ
        test "$(ls -d /proc/[0-9]* | wc -l)" -lt 10
      }
      package() { echo hidden > "$pkgdir/result"; }
      """
    When the package is built
    Then the package contains
      | result | 644 | hidden |

  Scenario Outline: A recipe does not reach the network, <step> by <way>
    Given a listener for <way>
    And a recipe of tool with
      """
      <step>() { echo before; {connect}; echo after; }
      """
    When the package is built
    Then the build fails with BUILD_FAILED
    And the log of the build contains `before`
    And the log of the build does not contain `after`
    And the listener was reached by nobody
    And the same command reaches the listener outside of the sandbox

    Examples:
      | step    | way               |
      | prepare | loopback          |
      | build   | loopback          |
      | package | loopback          |
      | build   | an abstract socket |
      | package | an abstract socket |
      | build   | a socket file     |

  Scenario Outline: A build ends when it is cancelled, in <phase>
    Given a recipe of tool with
      """
      stay() {
        trap '' TERM HUP INT
        (trap '' TERM; setsid bash -c 'trap "" TERM; exec -a {marker} sleep 1000' >/dev/null 2>&1 &) &
        setsid nohup bash -c 'exec -a {marker} sleep 1000' >/dev/null 2>&1 &
        echo started >&2
        exec -a {marker} sleep 1000
      }
      <recipe>
      """
    When the build is started
    And the build has 3 processes
    And the build is cancelled
    Then the build ends within 2 s as cancelled
    And no process of the build is left
    And nothing of the build is left

    Examples:
      | phase    | recipe                  |
      | evaluate | stay                    |
      | prepare  | prepare() { stay; }     |
      | pkgver   | pkgver() { stay; }      |
      | build    | build() { stay; }       |
      | check    | check() { stay; }       |
      | package  | package() { stay; }     |

  Scenario: A download ends when it is cancelled
    Given a file server with `/data.bin` of 3000000 bytes
    And the file server stops every response after 1000 bytes
    And a recipe of tool with
      """
      source=("{server}/data.bin")
      sha256sums=({sha256 of data.bin})
      """
    When the build is started
    And the file server was asked
    And the build is cancelled
    Then the build ends within 2 s as cancelled
    And nothing of the build is left

  Scenario: A clone ends when it is cancelled
    Given a file server with `/code/info/refs` of 3000000 bytes
    And the file server stops every response after 1000 bytes
    And a recipe of tool with
      """
      source=("code::git+{server}/code")
      sha256sums=(SKIP)
      """
    When the build is started
    And the file server was asked
    And the build is cancelled
    Then the build ends within 2 s as cancelled
    And no process is in the sandbox of the build
    And nothing of the build is left

  Scenario: The copy of a local file ends when it is cancelled
    Given the sparse file data of 4000000000 bytes beside the recipe
    And a recipe of tool with
      """
      source=(data)
      sha256sums=(SKIP)
      """
    When the build is started, and files without a checksum are permitted
    And the build has written into src/data
    And the build is cancelled
    Then the build ends within 2 s as cancelled
    And nothing of the build is left

  Scenario: An extraction ends when it is cancelled
    Given the archive data.gz of 100000000 zeros, 60 times
    And a recipe of tool with
      """
      source=(data.gz)
      sha256sums=({sha256 of data.gz})
      """
    When the build is started
    And the build has written into src/data
    And the build is cancelled
    Then the build ends within 2 s as cancelled
    And no process is in the sandbox of the build
    And nothing of the build is left

  Scenario: The checksums of a large package end when they are cancelled
    Given a recipe of tool with
      """
      package() { truncate -s 30G "$pkgdir/file"; }
      """
    When the build is started
    And the build reads pkg/file
    And the build is cancelled
    Then the build ends within 2 s as cancelled
    And nothing of the build is left

  Scenario Outline: A build that is cancelled at the beginning of a phase ends in it, <phase>
    Given a git repository with the tag v1 and the branch next
    And the file `{dir}/recipe/data` holds
      """
      anything
      """
    And a recipe of tool with
      """
      source=(data "code::git+file://{dir}/repository")
      sha256sums=({sha256 of data} SKIP)
      prepare() { :; }
      """
    When the build is started, and is cancelled when the phase <phase> begins
    Then the build ends within 2 s as cancelled
    And the last phase was <phase>
    And nothing of the build is left

    Examples:
      | phase    |
      | evaluate |
      | fetch    |
      | verify   |
      | extract  |
      | prepare  |
      | package  |
      | list     |

  Scenario: A build ends when nobody waits for it any more
    Given a recipe of tool with
      """
      build() { echo started; exec -a {marker} sleep 1000; }
      """
    When the build is started
    And the build has 1 process
    And the caller of the build goes away
    Then no process of the build is left
    And nothing of the build is left

  Scenario: What a step leaves running ends with it
    Given a recipe of tool with
      """
      build() { setsid bash -c 'exec -a {marker} sleep 1000' >/dev/null 2>&1 & echo left behind; }
      package() {
        for process in /proc/[0-9]*; do
          [[ $(tr '\0' ' ' < $process/cmdline) != {marker}* ]]
        done
        echo x > "$pkgdir/file"
      }
      """
    When the package is built
    Then the package contains the path file
    And no process of the build is left

  Scenario Outline: A recipe cannot escape by a link, <what>
    Given the file `{dir}/outside/file` holds
      """
      kept
      """
    And a recipe of tool with
      """
      package() { echo before; <commands>; }
      """
    When the package is built
    Then the build fails
    And the log of the build contains `before`
    And the file `{dir}/outside/file` contains `kept`
    And the error of the build contains `<error>`

    Examples:
      | what                 | commands                                                                    | error                 |
      | absolute             | ln -s {dir}/outside/file "$pkgdir/link"                                     | leads out of it       |
      | relative             | ln -s ../../../../outside/file "$pkgdir/link"                               | leads out of it       |
      | behind a directory   | ln -s . "$pkgdir/a"; ln -s a/../../x "$pkgdir/b"                            | leads out of it       |
      | written through      | ln -s {dir}/outside "$srcdir/link"; echo evil > "$srcdir/link/file"         | package failed        |
      | instead of pkgdir    | rmdir "$pkgdir"; ln -s {dir}/outside "$pkgdir"                              | package failed        |
      | a hard link          | ln {dir}/outside/file "$pkgdir/file"                                        | package failed        |
      | a pipe               | mkfifo "$pkgdir/pipe"                                                       | neither a file nor    |
      | a device             | mknod "$pkgdir/null" c 1 3; cp -a /dev/null "$pkgdir/x"; ! test -c "$pkgdir/null" && false | package failed |

  Scenario Outline: An archive cannot escape, <what>
    Given the file `{dir}/outside/file` holds
      """
      kept
      """
    And the archive a.tar with
      | <path>  | <content> |
      | <path2> | evil      |
    And a recipe of tool with
      """
      source=(a.tar)
      sha256sums=({sha256 of a.tar})
      prepare() { echo ran; }
      """
    When the package is built
    Then the build fails with BUILD_FAILED
    And the error of the build contains `extract failed`
    And the log of the build does not contain `ran`
    And the file `{dir}/outside/file` contains `kept`

    Examples:
      | what                  | path              | content                | path2              |
      | by an absolute path   | folder/file       | content                | {dir}/outside/file |
      | by a path upwards     | folder/file       | content                | ../../outside/file |
      | by a symbolic link    | link              | -> {dir}/outside       | link/file          |
      | by a hard link        | link              | => {dir}/outside/file  | link               |
      | by a device           | device            | device                 | folder/file        |

  Scenario: A zip archive cannot escape
    Given the archive a.zip with
      | ../../evil | evil |
    And a recipe of tool with
      """
      source=(a.zip)
      sha256sums=({sha256 of a.zip})
      """
    When the package is built
    Then the build fails with BUILD_FAILED
    And the error of the build contains `extract failed`

  Scenario Outline: A build that uses too much is stopped, <what>
    Given builds may use <limit>
    And a recipe of tool with
      """
      build() { echo before; <commands>; }
      """
    When the package is built
    Then the build fails with BUILD_FAILED
    And the log of the build contains `before`
    And the error of the build contains `<error>`
    And nothing of the build is left

    Examples:
      | what               | limit               | commands                                                                                              | error                       |
      | a fork bomb        | 200 processes       | bomb() { bomb & bomb & wait; }; bomb                                                                  | more than 200 processes     |
      | memory of one      | 100 MiB of memory   | dd if=/dev/zero of=/dev/null bs=500M count=1                                                          | memory exhausted            |
      | memory of several  | 200 MiB of memory   | for i in 1 2 3; do (head -c 90M /dev/zero \| tail -c 90M \| sleep 1000) & done; wait                  | more than 200 MiB of memory |
      | shared memory      | 40 MiB of disk      | for i in 1 2 3; do head -c 30M /dev/zero > /dev/shm/$i; done; sleep 1000                              | more than 40.0 MiB of disk  |
      | a huge file        | 40 MiB of disk      | exec dd if=/dev/zero of=big bs=1M                                                                     | build                       |
      | much on disk       | 40 MiB of disk      | for i in 1 2 3; do head -c 30M /dev/zero > $i; done; sleep 1000                                       | more than 40.0 MiB of disk  |
      | many files         | 500 files           | for i in {1..1000}; do : > $i; done; sleep 1000                                                       | more than 500 files         |
      | nested directories | 100000 files        | for i in {1..300}; do mkdir d; cd d; done; sleep 1000                                                 | nested too deeply           |
      | endless output     | 1 MiB of log        | yes                                                                                                   | more than 1.0 MiB of output |
      | time               | 1 second            | sleep 1000                                                                                            | more than 1 s               |

  Scenario: An archive that becomes huge is stopped
    Given builds may use 40 MiB of disk
    And the archive bomb.gz of 200000000 zeros
    And a recipe of tool with
      """
      source=(bomb.gz)
      sha256sums=({sha256 of bomb.gz})
      """
    When the package is built
    Then the build fails with BUILD_FAILED
    And nothing of the build is left

  Scenario: Output is escaped in the log and in errors
    Given a recipe of tool with
      """
      build() { printf '\033[31mred\033[0m error: \a\u202egnp\n\377'; false; }
      """
    When the package is built
    Then the build fails with BUILD_FAILED
    And the error of the build contains `\u{1b}[31mred\u{1b}[0m error: \u{7}\u{202e}gnp`
    And neither log nor error nor events contain a control character

  Scenario: A package with hostile file names is refused, and they are escaped
    Given a recipe of tool with
      """
      package() { echo x > "$pkgdir/"$'a\e[31m\nb'; }
      """
    When the package is built
    Then the build fails with PACKAGE_INVALID
    And the error of the build contains `a\u{1b}[31m\nb`
    And nothing of the build is left

  Scenario: A machine without bubblewrap builds nothing
    Given bubblewrap does not work on this machine
    And a recipe of tool with
      """
      pkgdesc=$(echo ran >&2)
      """
    When the package is built
    Then the build fails with SANDBOX_UNAVAILABLE
    And the error of the build contains `apt-get install bubblewrap fakeroot`
    And nothing of the build is left
