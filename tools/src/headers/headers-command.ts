/** The importer as a command: arguments in, text or JSON out. */
import { parseArgs } from 'node:util';
import { type HeaderReport, importHeaders, type ImportOptions } from './importer.js';

export const HEADERS_USAGE = '[--json] [--write-fixtures] [--without-linux] [--include DIR]... [--compiler CC]';

export interface HeadersStreams {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

const OPTIONS = {
  json: { type: 'boolean' },
  'write-fixtures': { type: 'boolean' },
  'without-linux': { type: 'boolean' },
  include: { type: 'string', multiple: true },
  compiler: { type: 'string' },
} as const;

const EXIT_DIFFERENT = 1;
const EXIT_BAD_INPUT = 2;

/** Returns the exit code: 0 if all agree or nothing can be checked here, 1 if anything differs, 2 for bad arguments. */
export function runHeaders(args: readonly string[], streams: HeadersStreams, defaults: ImportOptions = {}): number {
  let given;
  try {
    given = parseArgs({ args: [...args], options: OPTIONS, strict: true }).values;
  } catch (error) {
    streams.stderr.write(`headers: ${(error as Error).message.split('.')[0]!}; usage: ${HEADERS_USAGE}\n`);
    return EXIT_BAD_INPUT;
  }
  const report = importHeaders({
    ...defaults,
    ...(given.compiler === undefined ? {} : { compiler: given.compiler }),
    ...(given.include === undefined ? {} : { includes: given.include }),
    ...(given['without-linux'] === true ? { withoutLinux: true } : {}),
    writeFixtures: given['write-fixtures'] === true,
  });
  streams.stdout.write(given.json === true ? `${JSON.stringify(report)}\n` : reportText(report));
  if (given['write-fixtures'] === true && report.fixtures !== 'written') {
    streams.stderr.write('headers: the fixtures were not written: they need a C compiler and linux/vfio.h\n');
    return EXIT_BAD_INPUT;
  }
  return report.differences.length > 0 || report.fixtures === 'different' ? EXIT_DIFFERENT : 0;
}

/** The report for people. */
export function reportText(report: HeaderReport): string {
  if (report.skipped !== undefined) return `skipped: ${report.skipped}\n`;
  const lines: string[] = [];
  for (const [origin, title] of [
    ['rfc', 'RFC v3.1 and VMID, C rendering'],
    ['linux', `linux/vfio.h of ${report.kernelHeaders ?? ''}`],
    ['iommufd', iommufdTitle(report)],
  ] as const) {
    const compared = report.compared[origin];
    if (compared === undefined) continue;
    const { structs, fields, constants } = compared;
    lines.push(`${title}: ${structs} structures, ${fields} fields, ${constants} constants compared`);
  }
  if (report.compared.rfc !== undefined && report.compared.linux === undefined) {
    lines.push('linux/vfio.h: skipped, it is not installed (Debian: linux-libc-dev)');
  }
  for (const { where, declared, actual } of report.differences) {
    lines.push(`DIFFERENT ${where}: declared ${declared}, C says ${actual}`);
  }
  lines.push(`fixtures: ${report.fixtures}`, `${report.differences.length} differences`);
  return `${lines.join('\n')}\n`;
}

function iommufdTitle({ iommufdHeaders }: HeaderReport): string {
  return iommufdHeaders === undefined ? 'iommufd, C rendering' : `linux/iommufd.h of ${iommufdHeaders}`;
}
