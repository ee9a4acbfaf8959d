/** Whether a function's requests without PASID bypass translation, as its tables stand now. */
import { ContextEntry, PasidEntry, Pgtt, ScalableContextEntry, TranslationType } from '../spec/index.js';

/** What is asked of the unit. Both reads return 0, or a fault reason. */
export interface TableReader {
  readonly scalable: boolean;
  readContextEntry(requesterId: number, out: Int32Array): number;
  readPasidEntry(requesterId: number, pasid: number, out: Int32Array): number;
}

const context = new Int32Array(ScalableContextEntry.words);
const entry = new Int32Array(PasidEntry.words);

export function passesThrough(unit: TableReader, requesterId: number): boolean {
  if (!unit.scalable) {
    return (
      unit.readContextEntry(requesterId, context) === 0 &&
      ContextEntry.fields.tt.get(context, 0) === TranslationType.PASS_THROUGH
    );
  }
  return unit.readPasidEntry(requesterId, 0, entry) === 0 && PasidEntry.fields.pgtt.get(entry, 0) === Pgtt.PASS_THROUGH;
}
