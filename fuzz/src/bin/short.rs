//! Runs the targets without any fuzzing engine: replays the corpus, then changes its inputs at random for a while.
//!
//! ```text
//! short [--seconds N] [--seed N] [--jobs N] [TARGET…]     all targets, N seconds of mutation each
//! short --input FILE TARGET                               one input, without catching anything
//! short --write-seeds [TARGET…]                           writes the targets' seeds into the corpus
//! ```
//! Each target runs in a process of its own, under a memory limit. An input that panics, that takes more than
//! [`CPU_SECONDS_MAX`] of processor time or [`MEMORY_BYTES_MAX`] of memory, that ends the process, or that does not end,
//! is saved under `artifacts/` and fails the run. The child writes every input down before it runs it, so that also the
//! one that kills it is known.
#![allow(clippy::disallowed_methods, reason = "a test program reads its clock, arguments and files itself")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keys_fuzz::mutate::mutate;
use keys_fuzz::{TARGETS, Target};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of one input. The slowest honest one, a certificate full of signatures, takes a tenth in this build.
const CPU_SECONDS_MAX: Duration = Duration::from_secs(5);
/// Address space of a target's process: what it maps at its start, and half a gibibyte for the input.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// A child that has not changed its input for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);

struct Options {
    seconds: u64,
    seed: u64,
    jobs: usize,
    input: Option<PathBuf>,
    child: bool,
    write_seeds: bool,
    targets: Vec<&'static Target>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("short: {problem}");
            return ExitCode::from(2);
        }
    };
    match (&options.input, options.targets.as_slice()) {
        (Some(path), [target]) => {
            (target.run)(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
            println!("{}: nothing to report", target.name);
            ExitCode::SUCCESS
        }
        (Some(_), _) => {
            eprintln!("short: --input needs exactly one target");
            ExitCode::from(2)
        }
        (None, [target]) if options.child => child(target, options.seconds, options.seed),
        (None, targets) if options.write_seeds => {
            targets.iter().for_each(|target| write_seeds(target));
            ExitCode::SUCCESS
        }
        (None, _) => parent(&options),
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let mut options =
        Options { seconds: 2, seed, jobs, input: None, child: false, write_seeds: false, targets: vec![] };
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse().ok()).ok_or(format!("{argument} needs a number"));
        match argument.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--jobs" => options.jobs = number()?.max(1) as usize,
            "--input" => options.input = Some(arguments.next().ok_or("--input needs a file")?.into()),
            "--child" => options.child = true,
            "--write-seeds" => options.write_seeds = true,
            name => {
                let names = || TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(", ");
                let target = TARGETS.iter().find(|t| t.name == name);
                options.targets.push(target.ok_or_else(|| format!("no target {name}; there are {}", names()))?);
            }
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.iter().collect();
    }
    Ok(options)
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where a child of this run keeps the input that it is about to run.
fn current(target: &Target) -> PathBuf {
    here().join("artifacts").join(format!(".current-{}", target.name))
}

fn save(target: &Target, input: &[u8]) -> PathBuf {
    let digest = keys::digest::Digest::of(input);
    let path = here().join("artifacts").join(format!("{}-{}", target.name, digest.short()));
    fs::write(&path, input).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let directory = here().join("corpus").join(target.name);
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .map(|entries| entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

fn write_seeds(target: &Target) {
    let directory = here().join("corpus").join(target.name);
    fs::create_dir_all(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    for (i, seed) in (target.seeds)().iter().enumerate() {
        let path = directory.join(format!("seed-{i}"));
        fs::write(&path, seed).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// Runs every target in a child, a few at a time, and tells how each ended.
fn parent(options: &Options) -> ExitCode {
    println!("seed {}: {} s a target, {} at a time", options.seed, options.seconds, options.jobs);
    fs::create_dir_all(here().join("artifacts")).expect("a directory beside the targets");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(target) = options.targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(problem) = supervise(target, options) {
                        println!("{}: {problem}", target.name);
                        failed.lock().expect("no thread panics with it").push(target.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no thread panics with it");
    match failed.as_slice() {
        [] => ExitCode::SUCCESS,
        names => {
            println!("FAILED: {}; to repeat: fuzz/run input FILE TARGET", names.join(", "));
            ExitCode::FAILURE
        }
    }
}

/// Runs one child to its end, or to the end of our patience.
fn supervise(target: &Target, options: &Options) -> Result<(), String> {
    let current = current(target);
    fs::write(&current, [0; 8]).map_err(|e| format!("{}: {e}", current.display()))?;
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let mut child = Command::new(program)
        .args(["--child", "--seconds", &options.seconds.to_string(), "--seed", &options.seed.to_string(), target.name])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot start: {e}"))?;
    let mut changed = (Instant::now(), None);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("cannot wait: {e}"))? {
            break status.success().then_some(()).ok_or(format!("ended with {status}"));
        }
        std::thread::sleep(Duration::from_millis(20));
        let written = fs::metadata(&current).and_then(|meta| meta.modified()).ok();
        if written != changed.1 {
            changed = (Instant::now(), written);
        } else if changed.0.elapsed() > SILENCE_MAX {
            let _ = child.kill();
            let _ = child.wait();
            break Err("hangs".to_owned());
        }
    };
    let input = fs::read(&current).unwrap_or_default();
    let _ = fs::remove_file(&current);
    status.map_err(|problem| {
        let length = input.first_chunk::<8>().map_or(0, |n| u64::from_le_bytes(*n)) as usize;
        let input = input.get(8..8 + length).unwrap_or_default();
        format!("{problem}; the input is {}", save(target, input).display())
    })
}

/// Replays the corpus and mutates it, until the time is over or an input fails.
fn child(target: &Target, seconds: u64, seed: u64) -> ExitCode {
    let memory = Some(MEMORY_BYTES_MAX);
    setrlimit(Resource::As, Rlimit { current: memory, maximum: memory }).expect("a limit below the one in force");
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).expect("a limit below the one in force");
    let mut runner = Runner {
        target,
        current: fs::OpenOptions::new().write(true).open(current(target)).expect("the parent made it"),
        count: 0,
        slowest: Duration::ZERO,
    };
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{} has no corpus: fuzz/run seeds", target.name);
    for input in &corpus {
        if let Err(code) = runner.run(input) {
            return code;
        }
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    // Which input reached something new is not known without coverage; chains of changes stand in for it.
    let mut input = Vec::new();
    let mut steps = 0;
    while Instant::now() < end {
        if steps == 0 {
            input.clone_from(&corpus[rng.random_range(0..corpus.len())]);
            steps = rng.random_range(1..6);
        }
        mutate(&mut input, &corpus, target.words, &mut rng);
        steps -= 1;
        if let Err(code) = runner.run(&input) {
            return code;
        }
    }
    println!(
        "{}: {} inputs of the corpus, {} in all, the slowest {} ms",
        target.name,
        corpus.len(),
        runner.count,
        runner.slowest.as_millis()
    );
    ExitCode::SUCCESS
}

struct Runner<'a> {
    target: &'a Target,
    current: fs::File,
    count: u64,
    slowest: Duration,
}

impl Runner<'_> {
    fn run(&mut self, input: &[u8]) -> Result<(), ExitCode> {
        let header = (input.len() as u64).to_le_bytes();
        self.current.write_all_at(&[&header, input].concat(), 0).expect("room for one input");
        let began = processor_time();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        let took = processor_time().saturating_sub(began);
        self.count += 1;
        self.slowest = self.slowest.max(took);
        if outcome.is_err() {
            return Err(ExitCode::FAILURE);
        }
        if took > CPU_SECONDS_MAX {
            println!("{}: {} ms of processor time", self.target.name, took.as_millis());
            return Err(ExitCode::FAILURE);
        }
        Ok(())
    }
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
