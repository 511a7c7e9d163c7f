//! Trees as machines have them. What the kernel itself shows: `tests/cgroup.rs`.

use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;
const V1_MOUNTS: &str = "\
22 26 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 master:3 - cgroup cgroup rw,memory
";
const V1_STAT: &str = "\
cache 9000
inactive_file 1000
hierarchical_memory_limit 9223372036854771712
hierarchical_memsw_limit 9223372036854771712
total_cache 9000
total_inactive_file 2000
";
const V2_MOUNTS: &str = "\
22 26 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
29 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";
const V2_STAT: &str = "anon 4096\nfile 9000\ninactive_anon 5\ninactive_file 3000\n";
const PRESSURE: &str = "\
some avg10=1.50 avg60=0.25 avg300=0.01 total=123456
full avg10=0.50 avg60=0.00 avg300=0.00 total=4567
";

/// A machine's files.
struct Tree(TempDir);

impl Tree {
    fn new(cgroup: &str, mounts: &str) -> Self {
        let tree = Self(TempDir::new().expect("a directory"));
        tree.file("proc/self/cgroup", cgroup);
        tree.file("proc/self/mountinfo", mounts);
        tree
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn v1(self, directory: &str, limit: u64, usage: u64) -> Self {
        self.file(
            &format!("{directory}/memory.limit_in_bytes"),
            &format!("{limit}\n"),
        );
        self.file(
            &format!("{directory}/memory.usage_in_bytes"),
            &format!("{usage}\n"),
        );
        self.file(&format!("{directory}/memory.stat"), V1_STAT);
        self
    }

    fn v2(self, directory: &str, limit: &str, usage: u64) -> Self {
        self.file(&format!("{directory}/memory.max"), &format!("{limit}\n"));
        self.file(
            &format!("{directory}/memory.current"),
            &format!("{usage}\n"),
        );
        self.file(&format!("{directory}/memory.stat"), V2_STAT);
        self.file(&format!("{directory}/memory.pressure"), PRESSURE);
        self
    }

    fn find(&self) -> Option<Cgroup> {
        Cgroup::under(self.0.path())
    }

    /// Limit and working set.
    fn asked(&self) -> (Option<u64>, u64) {
        let found = self.find().expect("a cgroup");
        (found.limit(), found.working_set().expect("readable"))
    }
}

#[test]
fn version_1_the_smallest_limit_on_the_way_up_counts_and_what_is_used_of_it() {
    let cgroup = "4:memory:/pods/pod:7/agent\n3:cpu,cpuacct:/\n0::/\n";
    let none = 0x7FFF_FFFF_FFFF_F000;
    for (limits, expected) in [
        ([none, none, none], (None, 98_000)),
        ([64 * MIB, none, none], (Some(64 * MIB), 98_000)),
        ([64 * MIB, 32 * MIB, none], (Some(32 * MIB), 198_000)),
        ([64 * MIB, 32 * MIB, 16 * MIB], (Some(16 * MIB), 298_000)),
        ([32 * MIB, 32 * MIB, 32 * MIB], (Some(32 * MIB), 98_000)),
        // With pages of 64 KiB.
        ([0x7FFF_FFFF_FFFF_0000; 3], (None, 98_000)),
    ] {
        let tree = Tree::new(cgroup, V1_MOUNTS)
            .v1("sys/fs/cgroup/memory/pods/pod:7/agent", limits[0], 100_000)
            .v1("sys/fs/cgroup/memory/pods/pod:7", limits[1], 200_000)
            // That of all pods has no such files, and is passed over.
            .v1("sys/fs/cgroup/memory", limits[2], 300_000);
        assert_eq!(tree.asked(), expected, "{limits:?}");
    }
}

#[test]
fn version_1_knows_of_limits_that_are_not_mounted() {
    let mounts = V1_MOUNTS.replace(
        "0:32 / /sys/fs/cgroup/memory",
        "0:32 /docker/abc /sys/fs/cgroup/memory",
    );
    let tree =
        Tree::new("4:memory:/docker/abc\n", &mounts).v1("sys/fs/cgroup/memory", 64 * MIB, 100_000);
    assert_eq!(tree.asked(), (Some(64 * MIB), 98_000));
    let stat = V1_STAT.replace("9223372036854771712\nhier", "1048576\nhier");
    tree.file("sys/fs/cgroup/memory/memory.stat", &stat);
    assert_eq!(tree.asked(), (Some(MIB), 98_000));
}

#[test]
fn version_2_the_smallest_limit_on_the_way_up_counts_and_what_is_used_of_it() {
    let cgroup = "0::/kubepods.slice/pod 7.slice/agent.scope\n";
    let own = "sys/fs/cgroup/kubepods.slice/pod 7.slice/agent.scope";
    let pod = "sys/fs/cgroup/kubepods.slice/pod 7.slice";
    for (limits, expected) in [
        (["max", "max"], (None, 97_000)),
        (["67108864", "max"], (Some(64 * MIB), 97_000)),
        (["67108864", "33554432"], (Some(32 * MIB), 197_000)),
        (["max", "33554432"], (Some(32 * MIB), 197_000)),
        (["0", "33554432"], (Some(0), 97_000)),
    ] {
        // The root has no such files.
        let tree = Tree::new(cgroup, V2_MOUNTS)
            .v2(own, limits[0], 100_000)
            .v2(pod, limits[1], 200_000);
        assert_eq!(tree.asked(), expected, "{limits:?}");
        assert_eq!(
            tree.find().expect("a cgroup").directories,
            [tree.0.path().join(own), tree.0.path().join(pod)]
        );
    }
}

#[test]
fn version_2_where_the_controller_is_not_handed_down_the_nearest_with_it_counts() {
    let tree = Tree::new("0::/system.slice/agent.service/inner\n", V2_MOUNTS).v2(
        "sys/fs/cgroup/system.slice",
        "33554432",
        100_000,
    );
    tree.file(
        "sys/fs/cgroup/system.slice/agent.service/inner/cgroup.procs",
        "1\n",
    );
    assert_eq!(tree.asked(), (Some(32 * MIB), 97_000));
}

#[test]
fn in_a_container_what_is_mounted_is_its_own_whatever_path_it_is_shown() {
    let at_docker = V2_MOUNTS.replace("0:26 / ", "0:26 /docker/abc ");
    for (cgroup, mounts) in [
        // A cgroup namespace of its own.
        ("0::/\n", V2_MOUNTS),
        // None, and the mount says which part it is.
        ("0::/docker/abc\n", &*at_docker),
        // The host's path, of which nothing is seen.
        ("0::/kubepods/burstable/pod7/abc\n", V2_MOUNTS),
        ("0::/kubepods/burstable/pod7/abc\n", &*at_docker),
        // Moved out of the namespace's root.
        ("0::/../other\n", V2_MOUNTS),
        // Removed while something is left in it.
        ("0::/gone (deleted)\n", V2_MOUNTS),
    ] {
        let tree = Tree::new(cgroup, mounts)
            .v2("sys/fs/cgroup", "67108864", 100_000)
            // Whatever this is, it is not a cgroup.
            .v2("sys/fs/other", "1", 1);
        assert_eq!(tree.asked(), (Some(64 * MIB), 97_000), "{cgroup}{mounts}");
    }
    let inner = Tree::new("0::/docker/abc/inner\n", &at_docker)
        .v2("sys/fs/cgroup", "max", 200_000)
        .v2("sys/fs/cgroup/inner", "67108864", 100_000);
    assert_eq!(inner.asked(), (Some(64 * MIB), 97_000));
    let version_1 = Tree::new("4:memory:/kubepods/pod7/abc\n", V1_MOUNTS).v1(
        "sys/fs/cgroup/memory",
        64 * MIB,
        100_000,
    );
    assert_eq!(version_1.asked(), (Some(64 * MIB), 98_000));
}

#[test]
fn of_two_mounts_that_in_which_the_path_lies_counts() {
    let mounts = format!(
        "{}40 22 0:26 / /mnt/cgroup\\040all rw - cgroup2 cgroup2 rw\n",
        V2_MOUNTS.replace("0:26 / ", "0:26 /other ")
    );
    let tree = Tree::new("0::/agent\n", &mounts)
        .v2("sys/fs/cgroup", "1048576", 1)
        .v2("mnt/cgroup all/agent", "67108864", 100_000);
    assert_eq!(tree.asked(), (Some(64 * MIB), 97_000));
}

#[test]
fn with_both_versions_memory_is_where_its_files_are_and_pressure_is_version_2s() {
    let unified = "38 31 0:35 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let tree = Tree::new(
        "4:memory:/agent\n0::/agent\n",
        &format!("{V1_MOUNTS}{unified}"),
    )
    .v1("sys/fs/cgroup/memory/agent", 64 * MIB, 100_000);
    tree.file("sys/fs/cgroup/unified/agent/cgroup.procs", "1\n");
    assert_eq!(tree.asked(), (Some(64 * MIB), 98_000));
    let found = || tree.find().expect("a cgroup");
    assert_eq!(found().pressure(), None);
    tree.file("proc/pressure/memory", &PRESSURE.replace("1.50", "9.00"));
    assert_eq!(found().pressure().expect("the machine's").some.avg10, 9.0);
    tree.file("sys/fs/cgroup/unified/agent/memory.pressure", PRESSURE);
    assert_eq!(
        found().pressure(),
        Some(Pressure {
            some: Stall {
                avg10: 1.5,
                avg60: 0.25,
                avg300: 0.01,
                total: 123_456
            },
            full: Stall {
                avg10: 0.5,
                avg60: 0.0,
                avg300: 0.0,
                total: 4567
            },
        })
    );
}

#[test]
fn where_nothing_accounts_for_memory_there_is_no_cgroup() {
    // Version 2's root has no memory files; so has a hybrid's tree.
    let root = Tree::new("0::/\n", V2_MOUNTS);
    root.file("sys/fs/cgroup/cgroup.procs", "1\n");
    assert_eq!(root.find(), None);
    assert_eq!(Tree::new("4:memory:/a\n", "").find(), None);
    assert_eq!(
        Tree::new("nonsense\n::\n\n", "a b - \n - cgroup x\n").find(),
        None
    );
    let nothing = TempDir::new().expect("a directory");
    assert_eq!(Cgroup::under(nothing.path()), None);
}

#[test]
fn what_cannot_be_read_is_an_error_that_says_so() {
    let tree = Tree::new("0::/\n", V2_MOUNTS).v2("sys/fs/cgroup", "max", 1);
    let found = tree.find().expect("a cgroup");
    tree.file("sys/fs/cgroup/memory.stat", "anon 7\n");
    let error = found.working_set().expect_err("no such key").to_string();
    assert!(
        error.ends_with("memory.stat has no inactive_file"),
        "{error}"
    );
    tree.file("sys/fs/cgroup/memory.current", "much\n");
    assert!(found.working_set().is_err());
    tree.file("sys/fs/cgroup/memory.pressure", "some avg10=x\n");
    assert_eq!(found.pressure(), None);
}
