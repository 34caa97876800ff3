import type { Environment } from '../target.ts'
import type { Check } from './check.ts'
import { runCommand } from './command.ts'

const probe = 'import sys, venv, ensurepip; print("%d.%d.%d" % sys.version_info[:3])'

/** The machine's Python: the embedded engine runs modules on it, Docker brings its own. */
export async function checkPython(needed: boolean, signal: AbortSignal): Promise<Check> {
  const name = 'python'
  const level = needed ? 'fail' : 'warn'
  const unneeded = needed ? '' : ' (only the embedded engine needs it)'
  const limits = { timeoutMs: 10_000, signal }
  const { code, stdout, stderr } = await runCommand('python3', ['-c', probe], limits)
  if (code === undefined) {
    return {
      name,
      level,
      message: `there is no python3${unneeded}`,
      remedy: 'Install Python 3.9 or newer with its venv module.',
    }
  }
  const version = stdout.trim()
  if (code !== 0) {
    const missing = /No module named '(\w+)'/.exec(stderr)?.[1]
    if (missing === undefined) {
      return { name, level, message: `python3 does not run${unneeded}`, remedy: stderr.trim().split('\n').at(-1) ?? '' }
    }
    return {
      name,
      level: 'warn',
      message: `python3 lacks its module ${missing}: requirements that only pip can install fail${unneeded}`,
      remedy: 'Install it: on Debian and Ubuntu the package is python3-venv.',
    }
  }
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major !== 3 || minor < 9) {
    return {
      name,
      level,
      message: `Python ${version} is too old for modules${unneeded}`,
      remedy: 'Install Python 3.9 or newer.',
    }
  }
  return { name, level: 'ok', message: `Python ${version} with venv` }
}

/** Asks the package index that pip is configured for: with its proxy, its CA bundle and its login. */
export async function checkIndex(env: Environment, signal: AbortSignal): Promise<Check> {
  const name = 'package index'
  const index = env.UV_DEFAULT_INDEX || env.UV_INDEX_URL
  const args = [
    '-m',
    'pip',
    'index',
    'versions',
    'pip',
    '--retries',
    '0',
    '--timeout',
    '10',
    ...(index ? ['--index-url', index] : []),
  ]
  const { code, stderr } = await runCommand('python3', args, { timeoutMs: 20_000, signal })
  if (code === 0) return { name, level: 'ok', message: 'the package index answers pip' }
  if (code === undefined || /No module named '?pip/.test(stderr)) {
    return { name, level: 'warn', message: 'not checked: there is no pip on this machine to ask with' }
  }
  const lines = stderr
    .trim()
    .split('\n')
    .filter((line) => !/^WARNING: pip index is currently/.test(line))
  return {
    name,
    level: 'warn',
    message: `the package index does not answer: ${lines.at(-1) ?? ''}; environments that are installed already still work`,
    remedy: 'Set HTTPS_PROXY, PIP_INDEX_URL or PIP_CERT as your network needs them: Berth passes them on to installs.',
  }
}
