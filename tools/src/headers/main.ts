/** `node tools/dist/headers/main.js [--json] [--write-fixtures]`: see HEADERS_USAGE. */
import { runHeaders } from './headers-command.js';

process.exitCode = runHeaders(process.argv.slice(2), process);
