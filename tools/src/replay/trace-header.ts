/** The first lines of a recording, which say what was recorded, and the last. */
import { TraceError } from './trace-error.js';
import { excerpt } from './trace-line.js';
import { allDigitsOf, parseWords, type Words } from './words.js';

/** The facts of line 1. */
export interface UnitFacts {
  readonly cap: Words;
  readonly ecap: Words;
  readonly addressWidth: number;
  readonly cachingMode: boolean;
  readonly scalableMode: boolean;
  readonly firstStage: boolean;
  readonly pasidMode: boolean;
}

export interface TraceHeader extends UnitFacts {
  /**
   * Whose unit it was. Of QEMU's, what the options do not name comes from the machine; `remora`: a unit of this project's, with the
   * defaults of its options.
   */
  readonly recorder: 'qemu' | 'remora';
  /** Properties of `-device intel-iommu` on the recorded command line. */
  readonly options: ReadonlyMap<string, string>;
}

/** Begins line 2, which may be left out. */
export const COMMAND = '# cmd ';
/** The last line of a recording, and of one that was cut off. */
export const END = '# end';
export const TRUNCATED = '# truncated';

const HEADER =
  /^# vtd-trace 1 (qemu|remora) \S+ cap=([0-9a-f]{1,16}) ecap=([0-9a-f]{1,16}) aw=(\d{2}) cm=([01]) sm=([01]) flts=([01]) pasid=([01])$/;
export const HEADER_FORM = '"# vtd-trace 1 qemu|remora VERSION cap=.. ecap=.. aw=.. cm=.. sm=.. flts=.. pasid=.."';
const DEVICE = '-device intel-iommu,';

/** Parses lines 1 and 2. @throws TraceError */
export function parseHeader(file: string, first: string, second: string | undefined): TraceHeader {
  const match = HEADER.exec(first);
  if (match === null) throw new TraceError(file, 1, `expected ${HEADER_FORM}, found ${excerpt(first)}`);
  const [, recorder, cap, ecap, width, caching, scalable, firstStage, pasid] = match;
  return {
    recorder: recorder === 'remora' ? 'remora' : 'qemu',
    cap: parseWords(cap!),
    ecap: parseWords(ecap!),
    addressWidth: Number(width),
    cachingMode: caching === '1',
    scalableMode: scalable === '1',
    firstStage: firstStage === '1',
    pasidMode: pasid === '1',
    options: deviceOptions(second ?? ''),
  };
}

/** Lines 1 and 2 of the recording of a unit of this project's. `command`: what ran. `options`: as for `-device intel-iommu`. */
export function headerLines(
  version: string,
  { cap, ecap, addressWidth, cachingMode, scalableMode, firstStage, pasidMode }: UnitFacts,
  command: string,
  options: Readonly<Record<string, string>>,
): string[] {
  const registers = `cap=${allDigitsOf(cap.hi, cap.lo)} ecap=${allDigitsOf(ecap.hi, ecap.lo)}`;
  const modes = Object.entries({ cm: cachingMode, sm: scalableMode, flts: firstStage, pasid: pasidMode });
  const flags = modes.map(([name, on]) => `${name}=${on ? 1 : 0}`).join(' ');
  const properties = Object.entries(options).map(([name, value]) => `,${name}=${value}`);
  return [
    `# vtd-trace 1 remora ${version} ${registers} aw=${addressWidth} ${flags}`,
    `${COMMAND}${command}${properties.length === 0 ? '' : ` ${DEVICE}${properties.join('').slice(1)}`}`,
  ];
}

/** `a=1` and `b=2` of `... -device intel-iommu,a=1,b=2 ...`. */
function deviceOptions(command: string): ReadonlyMap<string, string> {
  const at = command.indexOf(DEVICE);
  const properties = at < 0 ? '' : command.slice(at + DEVICE.length).split(' ', 1)[0]!;
  return new Map(
    properties
      .split(',')
      .filter(property => property.includes('='))
      .map(property => [property.slice(0, property.indexOf('=')), property.slice(property.indexOf('=') + 1)] as const),
  );
}
