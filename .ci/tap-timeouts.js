/**
 * AVA's TAP reporter fails itself when a test hangs, and so does not say which (avajs/ava#3461): its `writeTimeout` hands on an error that is not
 * in the form in which errors come from tests.
 */
import TapReporter from '../node_modules/ava/lib/reporters/tap.js';

TapReporter.prototype.writeTimeout = function ({ pendingTests, period }) {
  const originalError = new Error(`not done, and no test completed within ${period} ms`);
  const err = { type: 'native', name: 'Timeout', originalError, stack: originalError.stack };
  for (const [testFile, titles] of pendingTests)
    for (const title of titles) this.writeTest({ testFile, title, err }, { passed: false, todo: false, skip: false });
};
