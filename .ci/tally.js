/**
 * Counts AVA's results from its TAP report: `node .ci/tally.js REPORT MINIMUM_FILE`. Prints "N passed, M failed" last. Exits 1 if a test
 * failed or was skipped (what tests compare with is installed here), the report does not end as AVA ends it, its lines and its own summary
 * differ, or N is below the number in MINIMUM_FILE.
 */
import { existsSync, readFileSync } from 'node:fs';

/** Test points of a report, and the totals that it closes with (undefined: cut short). A test that is still to do counts as failed. */
export function tally(report) {
  const points = [...report.matchAll(/^(not )?ok \d+ - .*$/gm)];
  const skipped = points.filter(([line, not]) => not === undefined && /# SKIP$/.test(line)).length;
  const failed = points.filter(([, not]) => not !== undefined).length;
  const plan = /^1\.\.\d+\n# tests (\d+)\n# pass (\d+)\n(?:# skip (\d+)\n)?# fail (\d+)\s*$/m.exec(report);
  return {
    passed: points.length - failed - skipped,
    failed,
    skipped,
    summary: plan === null ? undefined : { passed: Number(plan[2]), failed: Number(plan[4]) },
  };
}

function main(reportFile, minimumFile) {
  const minimum = Number(readFileSync(minimumFile, 'utf8'));
  const { passed, failed, skipped, summary } = tally(existsSync(reportFile) ? readFileSync(reportFile, 'utf8') : '');
  const problems = [];
  if (summary === undefined) problems.push('the test report is missing or cut short');
  else if (summary.passed !== passed || summary.failed !== failed)
    problems.push(
      `AVA says ${summary.passed} passed, ${summary.failed} failed; its report lists ${passed} and ${failed}`,
    );
  if (passed < minimum) problems.push(`${passed} tests passed; .ci/minimum-tests asks for ${minimum}`);
  if (skipped > 0) problems.push(`${skipped} skipped: they say in their titles or logs what is missing`);
  for (const problem of problems) console.log(problem);
  console.log(`${passed} passed, ${failed} failed`);
  return failed > 0 || problems.length > 0 ? 1 : 0;
}

process.exitCode = main(process.argv[2], process.argv[3]);
