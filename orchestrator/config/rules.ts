import { isIPv4 } from 'node:net'
import { isLoopback, parseListen } from './address.ts'
import { nearest } from './nearest.ts'
import type { FieldPath } from './problems.ts'
import { isObject, type Report } from './validate.ts'

/**
 * What the schema of `berth.yaml` can't say: fields that must fit each other. Takes the document as it is, fields of a
 * wrong kind included: those are reported by the schema and passed over here.
 */
export function checkRules(document: unknown, keyGiven: boolean, report: Report): void {
  const root = isObject(document) ? document : {}
  checkListen(root, keyGiven, report)
  checkModels(root, report)
  checkSubnets(root.docker, report)
  for (const [id, settings] of entries(root.module_settings)) {
    if (isObject(settings)) checkScale(settings.scale, ['module_settings', id, 'scale'], report)
  }
}

function checkListen(root: Record<string, unknown>, keyGiven: boolean, report: Report): void {
  const written = root.listen ?? '127.0.0.1:8080'
  if (typeof written !== 'string' && typeof written !== 'number') return
  const listen = parseListen(written)
  if (listen === undefined) {
    report(
      ['listen'],
      `must be an address such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080, not "${written}"`,
      'value',
    )
    return
  }
  const auth = root.auth ?? (keyGiven ? 'keys' : 'none')
  if (auth === 'none' && !isLoopback(listen.host)) {
    report(
      ['listen'],
      `other machines can reach ${listen.host}, and nobody is asked for a key: write \`auth: keys\` (or set BERTH_AUTH=keys), ` +
        'which makes a key at first start and puts it into admin.key in the data folder; or give a key of your own in ' +
        'BERTH_ADMIN_KEY, or in a file that BERTH_ADMIN_KEY_FILE names (`openssl rand -hex 32` makes one), and leave `auth` out; ' +
        'or listen on 127.0.0.1',
      'value',
    )
  }
}

function checkSubnets(docker: unknown, report: Report): void {
  if (!isObject(docker) || !Array.isArray(docker.subnets)) return
  const prefix = typeof docker.subnet_prefix === 'number' ? docker.subnet_prefix : 28
  for (const [index, range] of docker.subnets.entries()) {
    const [address = '', bits = ''] = String(range).split('/')
    const path = ['docker', 'subnets', String(index)]
    if (!/^[\d.]+$/.test(address) || bits === '') continue
    if (!isIPv4(address) || Number(bits) > 32)
      report(path, `${range} is no IPv4 range: write one such as 10.213.0.0/16`, 'value')
    else if (Number(bits) > prefix) report(path, `${range} has no room for a subnet of /${prefix}: widen it`, 'value')
  }
}

function checkModels(root: Record<string, unknown>, report: Report): void {
  for (const section of ['models', 'services']) {
    for (const [name, entry] of entries(root[section])) {
      const path = [section, name]
      if (section === 'services' && isObject(root.models) && Object.hasOwn(root.models, name)) {
        report(path, 'this model stands under `models` too: keep one of the two', 'key')
      }
      if (isObject(entry)) checkOwner(entry, path, report)
    }
  }
}

function checkOwner(entry: Record<string, unknown>, path: FieldPath, report: Report): void {
  const { module, service } = entry
  if (module !== undefined && service !== undefined && module !== service) {
    report([...path, 'service'], `\`module\` names another one (${String(module)}): keep one of the two`, 'value')
  }
  const owners = ['module', 'service', 'redirect_to']
  if (owners.some((key) => entry[key] !== undefined)) return
  const typo = Object.keys(entry).find((key) => nearest(key, owners) !== undefined)
  if (typo === undefined) report(path, 'which module serves this model? Add `module: <module id>`', 'key')
  else
    report(
      [...path, typo],
      `which module serves this model? Did you mean "${nearest(typo, owners)}" by "${typo}"?`,
      'key',
    )
}

/** Also of `module.yaml`. */
export function checkScale(scale: unknown, path: FieldPath, report: Report): void {
  if (!isObject(scale)) return
  const { min, max } = scale
  if (typeof min === 'number' && typeof max === 'number' && min > max) {
    report([...path, 'min'], `${min} is more than max (${max}): raise max or lower min`, 'value')
  }
}

function entries(value: unknown): [string, unknown][] {
  return isObject(value) ? Object.entries(value) : []
}
