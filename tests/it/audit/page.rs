//! The report as a page: in a browser that may ask nobody, on a telephone, in the dark, on paper; and what others wrote in it.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use keys::audit::{Report, page};
use keys::digest::Digest;
use keys::name::Kind;
use serde_json::Value;

use super::life::{HOSTILE, Life, day};
use crate::support::{Ran, Sandbox, Tool, tests};

tests!["audit":
    what_others_wrote_is_text_in_the_page,
    the_page_allows_its_own_style_and_script_alone,
    the_page_of_a_big_fleet_stays_small_and_says_what_is_cut,
    the_page_asks_nobody_and_has_no_errors needs [Chromium],
    the_page_fits_a_telephone needs [Chromium],
    the_page_has_a_dark_side needs [Chromium],
    the_page_can_be_searched_and_looked_at_closely needs [Chromium],
    the_page_is_whole_on_paper needs [Chromium, Pdftotext],
];

fn report(sandbox: &Sandbox) -> Report {
    Life::lived(sandbox).report(None, None, day(130))
}

fn what_others_wrote_is_text_in_the_page(sandbox: &Sandbox) {
    let mut report = report(sandbox);
    report.approvals[0].reason = "turned \u{202e}round\u{7}".to_owned();
    report.policies[1]
        .files
        .insert("x</pre><script>alert(3)</script>".to_owned(), vec!["+</pre><img src=x>".to_owned()]);
    let html = page(&report);
    assert_eq!(html.matches("<script").count(), 1, "one script, and it is ours");
    assert!(html.contains("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;]]&gt;&lt;img src=x onerror=&quot;alert(2)&quot;&gt; &amp; &#39;so on&#39;"));
    assert!(!html.contains(HOSTILE) && !html.contains("<img") && !html.contains('\u{202e}') && !html.contains('\u{7}'));
    assert!(
        html.contains("turned \\u{202e}round\\u{7}") && html.contains("policy/x&lt;/pre&gt;&lt;script&gt;alert(3)")
    );
}

fn the_page_allows_its_own_style_and_script_alone(sandbox: &Sandbox) {
    let html = page(&report(sandbox));
    let between =
        |from: &str, to: &str| html.split_once(from).and_then(|(_, rest)| rest.split_once(to)).unwrap().0.to_owned();
    let policy = between("http-equiv=\"Content-Security-Policy\" content=\"", "\"");
    assert!(policy.starts_with("default-src &#39;none&#39;; "), "{policy}");
    for (text, directive) in
        [(between("<style>", "</style>"), "style-src"), (between("<script>", "</script>"), "script-src")]
    {
        let hash = base64::engine::general_purpose::STANDARD.encode(Digest::of(text.as_bytes()).0);
        assert!(policy.contains(&format!("{directive} &#39;sha256-{hash}&#39;")), "{directive}: {policy}");
    }
    // Nothing leads out of it, and nothing is styled where the policy would forbid it.
    let links: Vec<&str> = html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() > 20 && links.iter().all(|l| l.starts_with('#')), "{links:?}");
    assert!(!html.contains(" src=\"") && !html.contains(" style=\"") && !html.contains("@import"));
    // Every link inside leads somewhere.
    let dead: Vec<&&str> = links.iter().filter(|l| !html.contains(&format!(" id=\"{}\"", &l[1..]))).collect();
    assert!(dead.is_empty(), "{dead:?}");
}

/// The report of a fleet of 300 PoPs with 1 200 services, made from that of a small one.
fn grown(small: &Report) -> Report {
    let mut big = small.clone();
    let pop = |kind: Kind| small.members.iter().find(|m| m.kind == kind && m.left.is_none()).unwrap().clone();
    for n in 0..300 {
        let site = format!("site{n:03}");
        let mut place = small.mesh[0].clone();
        (place.member, place.index) = (site.parse().unwrap(), n);
        for name in [
            site.clone(),
            format!("nginx@{site}"),
            format!("dns@{site}"),
            format!("redis@{site}"),
            format!("mail@{site}"),
        ] {
            let mut member = pop(if name.contains('@') { Kind::Service } else { Kind::Pop });
            member.member = name.parse().unwrap();
            let model = member.kind;
            for key in small.keys.iter().filter(|k| k.kind == model && k.member.to_string().ends_with("ams1")) {
                let mut key = key.clone();
                key.member = member.member.clone();
                key.key = format!("{}{name}", key.key);
                big.keys.push(key);
            }
            for vouch in small
                .vouches
                .iter()
                .filter(|v| v.of.to_string() == if model == Kind::Pop { "ams1" } else { "nginx@ams1" })
            {
                let mut vouch = vouch.clone();
                vouch.of = member.member.clone();
                big.vouches.push(vouch);
            }
            big.members.push(member);
        }
        let mut secret = small.secrets[0].clone();
        secret.address = format!("{site}/token").parse().unwrap();
        secret.readers.insert(site.parse().unwrap());
        big.secrets.push(secret);
        big.mesh.push(place);
        for k in 0..12 {
            let mut approval = small.approvals[3].clone();
            approval.entry = 100 + n * 12 + k;
            big.approvals.push(approval);
        }
    }
    let periods = small.cryptoperiods.clone();
    (0..250).for_each(|_| big.cryptoperiods.extend(periods.clone()));
    big
}

fn the_page_of_a_big_fleet_stays_small_and_says_what_is_cut(sandbox: &Sandbox) {
    let big = grown(&report(sandbox));
    let html = page(&big);
    assert!(html.len() < 5_000_000, "{} bytes", html.len());
    for cut in [
        "The first 24 of 301 PoPs are drawn; 277 are left out",
        "301 PoPs are drawn by region",
        "more rows are left out here; the JSON of this report has them.",
        "readers are too many for a matrix",
    ] {
        assert!(html.contains(cut), "it does not say: {cut}");
    }
    assert!(html.matches("<details class=\"group\">").count() >= 190, "sites are folded");
}

// --- In a browser -------------------------------------------------------------------------------------------------------

/// What the browser asks for by itself, whatever the page is: time, updates.
const OWN: [&str; 2] = [".google.com", ".googleapis.com"];

/// Runs the browser where it can reach nobody: whatever it asks for comes to us, is noted, and gets no answer. Gives what it
/// asked for because of the page.
fn browse(sandbox: &Sandbox, args: &[&str], page: &Path) -> (Ran, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("--proxy-server=http://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let noting = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut asked = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let mut line = String::new();
                // A connection without a request is one made beforehand.
                if BufReader::new(stream).read_line(&mut line).is_ok_and(|n| n > 0) {
                    asked.push(line.trim_end().to_owned());
                }
            }
            asked
        }
    });
    let profile = sandbox.path("profile");
    let _ = std::fs::remove_dir_all(&profile);
    let mut command = Command::new("/usr/bin/timeout");
    command.args(["-k", "5", "120"]).arg(Tool::Chromium.path().unwrap()).env_clear();
    command.env("HOME", sandbox.root()).env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-default-apps",
        "--disable-extensions",
        "--disable-dev-shm-usage",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        "--log-level=0",
        "--proxy-bypass-list=<-loopback>",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--virtual-time-budget=4000",
    ]);
    command.arg(proxy).arg(format!("--user-data-dir={}", profile.display()));
    let ran = Ran::of(command.args(args).arg(format!("file://{}", page.display())));
    done.store(true, Ordering::SeqCst);
    let mut asked = noting.join().unwrap();
    ran.ok();
    let host = |line: &str| {
        let target = line.split(' ').nth(1).unwrap_or_default();
        let host = target.trim_start_matches("http://").split(['/', ':']).next().unwrap_or_default();
        host.to_owned()
    };
    asked.retain(|line| !OWN.iter().any(|own| host(line).ends_with(own)));
    (ran, asked)
}

/// Opens the page in a frame `width` pixels wide, lets `script` look at it (`page` is its window), and gives what it returns.
fn look(sandbox: &Sandbox, args: &[&str], width: u32, script: &str) -> (Value, Ran, Vec<String>) {
    if !sandbox.path("report.html").exists() {
        sandbox.write("report.html", page(&report(sandbox)));
    }
    let harness = format!(
        "<!doctype html><meta charset=utf-8><iframe id=f src=report.html width={width} height=900></iframe><pre id=found></pre>
        <script>onload = () => {{ const page = document.getElementById('f').contentWindow; let found;
        try {{ found = (() => {{ const doc = page.document; {script} }})(); }} catch (e) {{ found = {{ failed: String(e) }}; }}
        document.getElementById('found').textContent = 'FOUND' + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + 'DNUOF'; }}</script>"
    );
    let harness = sandbox.write("harness.html", harness);
    let args: Vec<&str> = args.iter().copied().chain(["--dump-dom"]).collect();
    let (ran, asked) = browse(sandbox, &args, &harness);
    let out = ran.stdout();
    let found =
        out.split_once("FOUND").and_then(|(_, rest)| rest.split_once("DNUOF")).map(|(found, _)| found.to_owned());
    let found = found.unwrap_or_else(|| panic!("{out}\n{}", ran.stderr()));
    let bytes = base64::engine::general_purpose::STANDARD.decode(found).unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert!(value.get("failed").is_none(), "{value}");
    (value, ran, asked)
}

fn console(ran: &Ran) -> Vec<String> {
    ran.stderr().lines().filter(|l| l.contains("CONSOLE")).map(str::to_owned).collect()
}

fn the_page_asks_nobody_and_has_no_errors(sandbox: &Sandbox) {
    let script = "return { headings: [...doc.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1])),
        unnamed: [...doc.querySelectorAll('svg[role=img]')].filter(s => !s.getAttribute('aria-label')).length,
        scopes: [...doc.querySelectorAll('th')].filter(t => !t.scope).length,
        landmarks: ['header', 'nav', 'main', 'footer'].map(n => doc.querySelectorAll(n).length),
        ids: (() => { const all = [...doc.querySelectorAll('[id]')].map(e => e.id); return all.length - new Set(all).size; })(),
        fetched: page.performance.getEntriesByType('resource').length,
        alerts: doc.querySelectorAll('img').length, drawn: doc.querySelectorAll('svg').length,
        title: doc.title };";
    let (found, ran, asked) = look(sandbox, &[], 1200, script);
    assert_eq!(asked, Vec::<String>::new());
    assert_eq!(found["fetched"], 0, "what the page itself says that it fetched");
    assert_eq!(console(&ran), Vec::<String>::new());
    let levels: Vec<u64> = found["headings"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!(levels[0], 1);
    assert!(levels.windows(2).all(|w| w[1] <= w[0] + 1 && w[1] > 1), "{levels:?}");
    assert_eq!(
        (&found["unnamed"], &found["scopes"], &found["ids"], &found["alerts"]),
        (&0.into(), &0.into(), &0.into(), &0.into())
    );
    assert_eq!(found["landmarks"], serde_json::json!([1, 1, 1, 1]));
    assert!(
        found["drawn"].as_u64().unwrap() > 20 && found["title"].as_str().unwrap().starts_with("Audit of cdn.example")
    );

    // That this would have been noticed: a page that does ask, and does complain.
    let asking =
        sandbox.write("asking.html", "<img src=http://198.51.100.1/x><script>console.error('complaint')</script>");
    let (ran, asked) = browse(sandbox, &["--dump-dom"], &asking);
    assert!(
        asked.iter().any(|l| l.contains("198.51.100.1")) && console(&ran).iter().any(|l| l.contains("complaint")),
        "{asked:?} {}",
        ran.stderr()
    );
}

fn the_page_fits_a_telephone(sandbox: &Sandbox) {
    // Nothing is wider than the page; what scrolls sideways does so in a box of its own.
    let script = "const wide = doc.documentElement.scrollWidth - doc.documentElement.clientWidth;
        const out = [...doc.querySelectorAll('main *, header *')].filter(e => e.getBoundingClientRect().right > 361 && !e.closest('.wide') && !e.closest('svg') && !e.closest('.skip'))
            .map(e => e.tagName + '.' + e.className);
        if (doc.documentElement.clientWidth > 360) throw new Error('it is no telephone');
        const small = [...doc.querySelectorAll('td, th, p, li, summary')].filter(e => parseFloat(page.getComputedStyle(e).fontSize) < 11).length;
        return { wide, out: out.slice(0, 5), small };";
    let (found, ..) = look(sandbox, &[], 360, script);
    assert_eq!(found, serde_json::json!({ "wide": 0, "out": [], "small": 0 }));
}

/// Background, ink, and the least contrast of any text with what is behind it.
const COLOURS: &str = "
    const parse = c => c.match(/[0-9.]+/g).map(Number);
    const light = c => { const [r, g, b] = parse(c).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
    const behind = e => { for (; e; e = e.parentElement) { const c = page.getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
    let least = [99, ''];
    for (const e of doc.querySelectorAll('body *')) {
        if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
        const [a, b] = [light(page.getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
        const contrast = (a + .05) / (b + .05);
        if (contrast < least[0]) least = [contrast, e.tagName + '.' + e.className];
    }
    return { paper: page.getComputedStyle(doc.body).backgroundColor, ink: page.getComputedStyle(doc.body).color, least };";

fn the_page_has_a_dark_side(sandbox: &Sandbox) {
    let (light, ..) = look(sandbox, &["--blink-settings=preferredColorScheme=1"], 1200, COLOURS);
    let (dark, ..) = look(sandbox, &["--blink-settings=preferredColorScheme=0"], 1200, COLOURS);
    assert_ne!(light["paper"], dark["paper"]);
    assert_ne!(light["ink"], dark["ink"]);
    for side in [&light, &dark] {
        assert!(side["least"][0].as_f64().unwrap() >= 4.5, "contrast: {side}");
    }
}

fn the_page_can_be_searched_and_looked_at_closely(sandbox: &Sandbox) {
    let script = "
        const box = doc.querySelector('.search[data-of=t-approvals]');
        const rows = [...doc.querySelectorAll('#t-approvals tbody tr')];
        const shown = () => rows.filter(r => !r.hidden && r.getBoundingClientRect().height > 0).length;
        const type = text => { const i = box.querySelector('input'); i.value = text; i.dispatchEvent(new page.Event('input')); };
        const before = shown();
        type('policy.update ALICE');
        const one = shown(), said = box.querySelector('output').textContent;
        type('no such thing');
        const none = shown();
        box.querySelector('input').dispatchEvent(new page.KeyboardEvent('keydown', { key: 'Escape' }));
        const again = shown();
        doc.body.dispatchEvent(new page.KeyboardEvent('keydown', { key: '/', bubbles: true }));
        const focused = doc.activeElement.type;
        const bar = doc.querySelector('.tl rect.k-active');
        const wide = parseFloat(bar.getAttribute('width'));
        const press = days => doc.querySelector(`.zoom button[data-days='${days}']`).click();
        press(14);
        const zoomed = parseFloat(bar.getAttribute('width')), pressed = doc.querySelector('.zoom [aria-pressed=true]').dataset.days;
        press(0);
        return { before, one, said, none, again, focused, wider: zoomed > wide, pressed, back: parseFloat(bar.getAttribute('width')) === wide, hidden: box.hidden };";
    let (found, ran, _) = look(sandbox, &[], 1200, script);
    let all = found["before"].as_u64().unwrap();
    assert!(all >= 13, "{found}");
    let expected = serde_json::json!({ "before": all, "one": 1, "said": format!("1 of {all} rows"), "none": 0, "again": all, "focused": "search",
        "wider": true, "pressed": "14", "back": true, "hidden": false });
    assert_eq!(found, expected);
    assert_eq!(console(&ran), Vec::<String>::new());
}

fn the_page_is_whole_on_paper(sandbox: &Sandbox) {
    // A fleet of many sites, most of them folded on the screen.
    let mut report = report(sandbox);
    report.keys = grown(&report)
        .keys
        .into_iter()
        .filter(|k| k.member.to_string().len() <= 7 || k.member.to_string().contains("site00"))
        .collect();
    let html = page(&report);
    let path = sandbox.write("report.html", &html);
    let pdf = sandbox.path("report.pdf");
    let (_, asked) = browse(sandbox, &[&format!("--print-to-pdf={}", pdf.display()), "--no-pdf-header-footer"], &path);
    assert_eq!(asked, Vec::<String>::new());
    let text = Ran::of(Tool::Pdftotext.command().arg("-layout").arg(&pdf).arg("-")).ok();
    let titles = html.split("<h2 id=\"").skip(1).filter_map(|t| t.split_once('>')?.1.split('<').next());
    let missing: Vec<&str> = titles.filter(|t| !text.contains(*t)).collect();
    assert!(missing.is_empty(), "{missing:?} in {text}");
    // Also what is folded, and nothing that only a screen can use.
    assert!(text.contains("site009") && text.contains("Certificate of"), "{text}");
    assert!(!text.contains("Search this table") && !text.contains("Last 90 days"));
}
