/** A test that hangs is named in the report that CI counts. */
import { Writable } from 'node:stream';
import test from 'ava';

interface Reporter {
  i: number;
  consumeStateChange(event: object): void;
}
type ReporterClass = new (options: object) => Reporter;

const REPOSITORY = new URL('../../../', import.meta.url);
const MEND = new URL('.ci/tap-timeouts.js', REPOSITORY).href;
const TAP = new URL('node_modules/ava/lib/reporters/tap.js', REPOSITORY).href;

test('each test that is not done when nothing happens any more is a failure by its name', async t => {
  await import(MEND);
  const { default: TapReporter } = (await import(TAP)) as { default: ReporterClass };
  let report = '';
  const reportStream = new Writable({
    write: (chunk, _, done) => {
      report += String(chunk);
      done();
    },
  });
  const reporter = new TapReporter({ reportStream, projectDir: '/', extensions: ['js'] });
  const pendingTests = new Map([
    ['/a.test.js', new Set(['waits', 'waits, too'])],
    ['/b.test.js', new Set<string>()],
  ]);
  reporter.consumeStateChange({ type: 'timeout', period: 600_000, pendingTests });
  t.is(reporter.i, 2);
  t.regex(report, /^not ok 1 - waits\n {2}---\n {4}name: Timeout\n {4}message: 'not done, and .* 600000 ms'\n/);
  t.regex(report, /^not ok 2 - waits, too$/m);
});
