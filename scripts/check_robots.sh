#!/bin/sh
# Compares our robots.txt with the npm package robots-parser: on all cases of its own tests and on random ones.
#
#     scripts/check_robots.sh [RANDOM_CASES]
#
# Needs node and npm; the package is fetched into a folder that is removed. Differences are counted by cause. Expected are:
#
#   escapes   `%62` and `b` are the same path by RFC 9309, 2.2.2, whose own example has it; robots-parser keeps them apart, so `%24`
#             and `%2A` in a pattern do not meet `$` and `*` in an address there either, and a `%` that begins no escape stays as it is.
#   others    lines such as Crawl-delay between two User-agent lines end the first group there; by RFC 9309, 2.2.4, they do not.
#   empty     an agent that is named at the end, with no rule after it, has a group without rules and may fetch all (RFC 9309, 2.2.1);
#             there, the rules for * bind it.
#   agents    "bot (x)" names the agent bot by RFC 9309, 2.2.1; there, all up to a slash is the name.
#   robots    /robots.txt itself is always allowed by RFC 9309, 2.2.2.
#
# A difference with none of these causes is printed, and fails.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent robots-parser@3.0.1 >/dev/null && tar xzf robots-parser-3.0.1.tgz)
cat > "$work/cases.js" <<'JS'
// Writes cases with the package's answers: its tests are run with a parser that writes down what it is asked.
const fs = require('fs'), vm = require('vm'), path = require('path');
const [work, count] = [process.argv[2], Number(process.argv[3])];
const parser = require(path.join(work, 'package'));
const out = [];
const put = (robots, url, agent, allowed, from) => {
  if (typeof allowed !== 'boolean') return; // An address of another host, which the package does not answer.
  try { url = new URL(url, 'http://www.example.com/').href; } catch { return; }
  if (!robots.isWellFormed()) return; // Half a surrogate pair, which no file of bytes holds.
  out.push({ robots, url, agent: agent || '*', allowed, from });
};
const spy = (url, text) => {
  const real = parser(url, text), asked = Object.create(real);
  const answer = (name) => (address, agent) => {
    put(text || '', address, agent, real.isAllowed(address, agent), 'own');
    return real[name](address, agent);
  };
  asked.isAllowed = answer('isAllowed');
  asked.isDisallowed = answer('isDisallowed');
  return asked;
};
const quiet = new Proxy(function () {}, { get: (target, key) => (key === Symbol.toPrimitive ? () => '' : quiet), apply: () => quiet });
const context = { describe: (_, run) => run(), it: (_, run) => { try { run(); } catch (error) { console.error(String(error)); } },
  require: (name) => (name.includes('index') || name.includes('..') ? spy : name === 'chai' ? { expect: quiet, assert: quiet } : require(name)),
  module: {}, URL, Buffer, console };
vm.runInNewContext(fs.readFileSync(path.join(work, 'package/test/Robots.js'), 'utf8').replace(/^import .*$/gm, ''), context);
let state = 1;
const random = (below) => { state = (Math.imul(state, 1103515245) + 12345) >>> 0; return (state >>> 8) % below; };
const pick = (list) => list[random(list.length)];
const word = (parts, most) => Array.from({ length: random(most + 1) }, () => pick(parts)).join('');
for (let i = 0; i < count; i++) {
  const lines = [];
  for (let n = 1 + random(12); n > 0; n--) {
    lines.push(pick([
      () => 'User-agent: ' + pick(['*', 'alpha', 'Beta', 'gamma', 'alpha/1.0', 'BETA']),
      () => pick(['Disallow', 'disallow', 'Allow', 'ALLOW ']) + ':' + pick([' ', '']) + '/' + word(['a', 'b', '/', '*', '$', '?x=1', '.php', 'é', '%C3%A9', '%c3%a9'], 6),
      () => pick(['Disallow:', 'Disallow: /', 'Allow: /', 'Disallow: *', 'Disallow: a', '# text', '', 'Sitemap: /s', 'Disallow: /a # b']),
    ])());
  }
  const robots = lines.join(pick(['\n', '\r\n', '\r']));
  const url = 'http://www.example.com/' + word(['a', 'b', '/', '?x=1', '.php', 'é', '%C3%A9', '$', '*'], 7);
  const agent = pick(['alpha', 'beta', 'gamma', 'delta']);
  put(robots, url, agent, parser('http://www.example.com/robots.txt', robots).isAllowed(url, agent), 'random');
}
fs.writeFileSync(path.join(work, 'cases.jsonl'), out.map((line) => JSON.stringify(line) + '\n').join(''));
JS
cat > "$work/compare.js" <<'JS'
const fs = require('fs'), path = require('path');
const read = (name) => fs.readFileSync(path.join(process.argv[2], name), 'utf8').trim().split('\n');
const cases = read('cases.jsonl').map((line) => JSON.parse(line)), answers = read('answers');
const causes = {}, total = { own: 0, random: 0 };
let unexplained = answers.length === cases.length ? 0 : 1;
cases.forEach((one, index) => {
  total[one.from]++;
  if (String(one.allowed) === answers[index]) return;
  const escapes = /%[0-9a-f]{2}|%(?![0-9a-f]{2})/i.test(one.robots + one.url) || /[$*]/.test(one.url);
  const others = /user-agent[^\n\r]*[\n\r]+(?:(?!user-agent|allow|disallow)[^\n\r]*[\n\r]+)+user-agent/i.test(one.robots);
  const empty = /user-agent:[^\n\r]*(?:[\n\r]+(?!(?:allow|disallow))[^\n\r]*)*$/i.test(one.robots);
  const cause = new URL(one.url).pathname === '/robots.txt' ? 'robots' : empty ? 'empty' : others ? 'others' : escapes ? 'escapes' :
    /user-agent:[^\n\r/]*[^\s\w*/-][^\n\r]*/i.test(one.robots) || /[^\w*-]/.test(one.agent) ? 'agents' : null;
  if (!cause) { unexplained++; console.log(JSON.stringify(one), 'ours:', answers[index]); }
  const key = `${one.from}, ${cause}`;
  causes[key] = (causes[key] || 0) + 1;
});
console.log(`cases: ${total.own} of its own, ${total.random} random; differences:`, causes);
process.exit(unexplained ? 1 : 0);
JS
node "$work/cases.js" "$work" "${1:-20000}"
(cd "$root" && cargo run --quiet --release -p essaim-corpus --example robots < "$work/cases.jsonl" > "$work/answers")
node "$work/compare.js" "$work"
