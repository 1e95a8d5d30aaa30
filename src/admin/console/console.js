// The console. State comes over /v1/events with the token in a header, which EventSource cannot send.
// Everything shown is set as text: nothing from the proxy is ever read as HTML.
'use strict'

const MOST_ROWS = 200
const MOST_ENTRIES = 500
const PAGE_OF_ENTRIES = 40
const STALE = 5000

const $ = id => document.getElementById(id)
const state = { status: null, heard: 0, entries: [], shown: PAGE_OF_ENTRIES, generation: 0, open: null, since: 0 }

// ---- Small things ------------------------------------------------------------------------------

function el (tag, attributes, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === 'onclick') made.addEventListener('click', value)
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : value)
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false))
  return made
}

const words = text => String(text).replaceAll('_', ' ')
const hyphens = text => String(text).replaceAll('_', '-')
const law = jurisdiction => jurisdiction === 'eu' ? 'EU' : 'non-EU'

function percent (share) {
  const tenths = Math.round(share * 1000)
  return (tenths % 10 === 0 ? (tenths / 10).toFixed(0) : (tenths / 10).toFixed(1)) + '%'
}

function span (seconds) {
  if (seconds < 10) return seconds.toFixed(1) + ' s'
  if (seconds < 120) return seconds.toFixed(0) + ' s'
  if (seconds < 7200) return (seconds / 60).toFixed(0) + ' min'
  return (seconds / 3600).toFixed(1) + ' h'
}

function list (names, most = 8) {
  if (names.length <= most) return names.join(', ')
  return names.slice(0, most).join(', ') + ` and ${names.length - most} more`
}

function moment (text) {
  const at = new Date(text)
  if (isNaN(at)) return text
  const clock = at.toLocaleTimeString([], { hour12: false })
  return at.toDateString() === new Date().toDateString() ? clock : at.toLocaleDateString() + ' ' + clock
}

const time = text => el('time', { datetime: text, title: text }, moment(text))

let saying
function say (text) {
  $('said').textContent = text
  clearTimeout(saying)
  saying = setTimeout(() => { $('said').textContent = '' }, 8000)
}

// Replaces what is shown only where it differs, so that focus and selection survive an update.
function fill (parent, key, children) {
  if (parent.dataset.key === key) return
  parent.dataset.key = key
  parent.replaceChildren(...children().filter(child => child !== null))
}

// ---- Talking -----------------------------------------------------------------------------------

const token = () => sessionStorage.getItem('token')

async function ask (path, options = {}) {
  const headers = { ...options.headers }
  if (token()) headers.Authorization = `Bearer ${token()}`
  const answer = await fetch(path, { ...options, headers, cache: 'no-store' })
  if (answer.status === 401) {
    wantToken()
    throw new Error('The token is not the right one.')
  }
  return answer
}

async function told (answer) {
  if (answer.ok) return answer.json()
  const problem = await answer.json().catch(() => ({}))
  const reasons = (problem.reasons || []).slice(0, 5).join('\n')
  throw new Error([problem.detail || `The answer was ${answer.status}.`, reasons].filter(Boolean).join('\n'))
}

const send = (method, path, body) => ask(path, {
  method,
  headers: body ? { 'Content-Type': 'application/json' } : {},
  body: body && JSON.stringify(body)
}).then(told)

function wantToken () {
  $('state').hidden = $('give').hidden = $('reload').hidden = $('leave').hidden = true
  state.status = null
  if ($('login').hidden) {
    $('login').hidden = false
    $('login-error').textContent = token() ? 'That token is not the right one.' : ''
    sessionStorage.removeItem('token')
    $('token').focus()
  }
}

let listening = 0

async function listen () {
  const mine = ++listening
  for (let pause = 1000; mine === listening;) {
    try {
      const answer = await ask('/v1/events')
      if (!answer.ok) await told(answer)
      await catchUp()
      pause = 1000
      await read(answer.body.getReader(), mine)
    } catch (error) {
      if (!$('login').hidden || mine !== listening) return
      $('link').title = String(error.message)
      // As many readers as are served: the state can be asked for all the same.
      await ask('/v1/status').then(told).then(show, () => {})
      pause = Math.min(pause * 2, 10000)
    }
    await new Promise(resolve => setTimeout(resolve, pause / 2))
  }
}

async function read (reader, mine) {
  const decoder = new TextDecoder()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    if (mine !== listening) return reader.cancel()
    rest += decoder.decode(value, { stream: true })
    let end
    while ((end = rest.indexOf('\n\n')) >= 0) {
      event(rest.slice(0, end))
      rest = rest.slice(end + 2)
    }
  }
}

function event (text) {
  let name = 'message'
  let data = ''
  for (const line of text.split('\n')) {
    if (line.startsWith('event: ')) name = line.slice(7)
    if (line.startsWith('data: ')) data += line.slice(6)
  }
  if (name === 'status') show(JSON.parse(data))
  if (name === 'transition') happened([JSON.parse(data)])
}

// What was missed while nothing was heard stands in the journal.
async function catchUp () {
  const page = await ask('/v1/journal?since=24h').then(told)
  state.entries = []
  happened(page.entries)
}

function happened (entries) {
  state.entries = state.entries.concat(entries).slice(-MOST_ENTRIES)
  timeline()
}

// ---- Showing -----------------------------------------------------------------------------------

function show (status) {
  state.status = status
  state.heard = Date.now()
  for (const id of ['state', 'give', 'reload']) $(id).hidden = false
  $('login').hidden = true
  $('leave').hidden = !token()
  $('about').textContent = `${status.version}, snapshot ${status.generation}, ${moment(status.at)}`
  $('about').dataset.generation = status.generation
  link()
  alarms(status)
  grid(status)
  orders(status)
  services(status)
  if (state.open) detail()
}

function link () {
  if (!state.heard) return
  const age = Date.now() - state.heard
  // In steps: a screen reader says each of them.
  const [kind, text] = age < STALE ? ['good', 'live'] : ['bad', `nothing heard for ${span(Math.floor(age / 5000) * 5)}`]
  document.title = (age < STALE && state.status ? headline(state.status) : 'stale') + ' · bascule'
  if ($('link').textContent === text) return
  $('link').className = `pill ${kind}`
  $('link').textContent = text
}

function headline (status) {
  const worst = raised(status)[0]
  return worst ? worst.title : 'all well'
}

// Routes by who may carry them; where all of a service are meant, the service.
const routesOf = realm => [realm.residency, ...realm.require.map(label => `require ${label}`)].join(', ')
const named = (service, realms) => realms.length === service.realms.length ? service.name : `${service.name} (${realms.map(routesOf).join('; ')})`

// What somebody who was woken up has to know, worst first.
function raised (status) {
  const found = []
  const add = (kind, title, text) => found.push({ kind, title, text })
  const where = test => status.services.filter(test).map(service => service.name)
  const modes = mode => [
    ...status.services.filter(s => s.mode === mode || s.realms.some(r => r.mode === mode)).map(s => named(s, s.realms.filter(r => r.mode === mode))),
    ...status.services.flatMap(s => s.parts.filter(p => p.mode === mode).map(p => `${s.name} (${p.slice})`)),
  ]
  const moved = service => service.on_fallback && service.first
  const all = (kind, title, names, text) => names.length && add(kind, title, `${list(names)}: ${text}`)

  all('bad', 'Fail-closed', modes('fail_closed'), 'residency or orders leave no upstream; clients get the page.')
  all('bad', 'Common cause', where(s => s.common_cause), 'our own network or resolver is at fault. Routing is frozen, nobody is left for it.')
  all('bad', 'Origin incident', where(s => s.origin_incident), 'the origin itself fails. No provider is at fault, none was left: repair the origin.')
  all('bad', 'Fail-open', modes('fail_open'), 'every permitted upstream is bad; the least bad serves.')
  all('bad', 'Provider demoted', status.providers.filter(p => p.demoted).map(p => p.name), 'failed for several services, every service avoids it.')
  all('bad', 'Outside the EU', where(s => s.fallback_outside_eu), 'prefers the EU, and a fallback outside it serves.')
  for (const service of status.services.filter(moved).slice(0, 5)) {
    const first = service.upstreams.find(up => up.provider === service.first)
    const left = service.upstreams.filter(up => first && up.preference < first.preference).map(up => up.provider)
    const blame = service.incident && service.incident.blame ? ` Blame: ${words(service.incident.blame)}.` : ''
    add('warn', 'Failover', `${service.name} is served through ${service.first} (${law(first ? first.jurisdiction : '')}) instead of ${list(left)}.${blame}`)
  }
  const rest = status.services.filter(moved).length - 5
  if (rest > 0) add('warn', 'Failover', `${rest} more services are served through a fallback.`)
  all('warn', 'Part moved', where(s => s.parts.length), 'a part of the requests is served by others than the rest.')
  all('calm', 'Observed only', where(s => s.would_be_first), 'would be served by somebody else if decisions moved traffic.')
  const trouble = where(s => s.incident && !s.origin_incident && !s.on_fallback && !s.common_cause && s.mode === 'normal')
  all('calm', 'Incident', trouble, 'something fails, and nothing was moved for it.')
  return found
}

function alarms (status) {
  const found = raised(status)
  if (!found.length) found.push({ kind: 'good', title: 'All well', text: `${status.services.length} services are served through their first choice.` })
  const signs = { bad: '✖', warn: '▲', calm: '●', good: '✔' }
  fill($('alarms'), JSON.stringify(found), () => found.map(({ kind, title, text }) =>
    el('div', { class: `alarm ${kind}`, 'data-alarm': title },
      el('span', { 'aria-hidden': 'true' }, signs[kind]), el('div', {}, el('b', {}, title), el('span', {}, text)))))
}

const KINDS = { healthy: 'good', suspect: 'warn', ejected: 'bad', half_open: 'calm', ramping: 'calm' }
const SIGNS = { healthy: '✔', suspect: '▲', ejected: '✖', half_open: '◐', ramping: '◔' }
const isTroubled = service => service.incident || service.origin_incident || service.mode !== 'normal' || service.on_fallback || service.parts.length ||
  service.upstreams.some(up => up.health !== 'healthy' || up.admin !== 'auto' || up.gray_alert || up.admits < 1)

function grid (status) {
  const sought = $('filter').value.trim().toLowerCase()
  const providers = status.providers
  const matches = service => !sought || service.name.toLowerCase().includes(sought) ||
    service.upstreams.some(up => up.provider.toLowerCase().includes(sought))
  const chosen = status.services.filter(service => matches(service) && (!$('troubled').checked || isTroubled(service)))
  const rows = chosen.slice(0, MOST_ROWS)
  const table = $('grid')
  if (!table.tHead) table.append(el('thead', { role: 'rowgroup' }), el('tbody', { role: 'rowgroup' }))
  fill(table.tHead, JSON.stringify(providers.map(p => [p.name, p.seat, p.jurisdiction, p.kind, p.demoted])), () => [
    el('tr', { role: 'row' }, el('th', { scope: 'col', role: 'columnheader' }, 'Service'), providers.map(provider =>
      el('th', { scope: 'col', role: 'columnheader' }, provider.name, ' ', lawTag(provider.jurisdiction),
        el('span', { class: 'quiet' }, provider.kind === 'origin' ? 'the origin itself, ' : '', `seat ${provider.seat}`,
          provider.demoted ? el('b', { class: 'bad' }, ' demoted') : null))))
  ])
  const body = table.tBodies[0]
  const names = new Set(rows.map(service => service.name))
  for (const row of [...body.rows]) if (!names.has(row.dataset.service)) row.remove()
  rows.forEach((service, place) => {
    let row = body.rows[place]
    if (!row || row.dataset.service !== service.name) {
      row = [...body.rows].find(other => other.dataset.service === service.name) || el('tr', { role: 'row', 'data-service': service.name })
      body.insertBefore(row, body.rows[place] || null)
    }
    serviceRow(row, service, providers)
  })
  $('grid-more').textContent = !chosen.length ? 'No service is like that.' : chosen.length > rows.length ? `The first ${rows.length} of ${chosen.length} services; filter for the others.` : ''
}

const lawTag = jurisdiction => el('span', { class: `tag ${jurisdiction === 'eu' ? 'good' : 'calm'}` }, law(jurisdiction))

function serviceRow (row, service, providers) {
  while (row.cells.length < providers.length + 1) {
    row.append(row.cells.length ? el('td', { role: 'cell' }) : el('th', { scope: 'row', role: 'rowheader' }))
  }
  while (row.cells.length > providers.length + 1) row.lastChild.remove()
  const { incident, first, mode, residency, failover, parts, realms } = service
  const blame = service.origin_incident ? 'origin' : incident ? incident.blame || 'unknown' : null
  const known = { n: service.name, blame, first, mode, residency, failover, parts, realms, orders: service.would_be_first }
  fill(row.cells[0], JSON.stringify(known), () => [
    service.name,
    el('span', { class: 'quiet' }, `${residency}${failover === 'observe' ? ', observe only' : ''}`),
    el('span', { class: 'quiet' }, 'served through ', el('b', {}, first || 'nobody'),
      mode === 'normal' ? '' : el('b', { class: 'bad' }, ` ${hyphens(mode)}${realms.every(r => r.mode === mode) ? '' : ' in part'}`)),
    ...realms.map(realm => el('span', { class: 'quiet' }, `${routesOf(realm)}: ${realm.first || 'nobody'}`,
      realm.mode === 'normal' ? '' : el('b', { class: 'bad' }, ` ${hyphens(realm.mode)}`))),
    blame ? el('span', { class: 'quiet' }, 'incident, blame ', el('b', { class: 'bad', 'data-blame': blame }, words(blame))) : null,
    ...parts.map(part => el('span', { class: 'quiet' }, `${part.slice}: ${part.first || 'nobody'}${part.mode === 'normal' ? '' : `, ${hyphens(part.mode)}`}`))
  ])
  providers.forEach((provider, place) => upstreamCell(row.cells[place + 1], service, provider))
}

function upstreamCell (cell, service, provider) {
  const upstreams = service.upstreams.filter(up => up.provider === provider.name)
  const barred = service.barred.some(other => other.provider === provider.name)
  cell.dataset.provider = `${provider.name} (${law(provider.jurisdiction)})`
  cell.className = upstreams.length || barred ? '' : 'none'
  const known = upstreams.map(up => [up.endpoint, up.health, up.share, up.rate.toFixed(1), percent(up.failing), up.admin, up.place, up.gray_alert, up.admits])
  // A reader's focus stays where it is while the figures change.
  const had = cell.contains(document.activeElement) ? [...cell.children].indexOf(document.activeElement) : -1
  fill(cell, JSON.stringify([known, barred, service.first]), () => {
    if (barred) return [el('span', { class: 'quiet' }, `barred: ${service.residency}`)]
    if (!upstreams.length) return [el('span', { class: 'quiet' }, '–')]
    return upstreams.map(upstream => upstreamButton(service, upstream))
  })
  if (had >= 0 && cell.children[had] !== document.activeElement) cell.children[had]?.focus()
}

function upstreamButton (service, up) {
  const serves = service.first === up.provider && up.share > 0
  const notes = [
    up.admin === 'auto' ? null : `${words(up.admin)} by order`,
    up.gray_alert ? 'gray alert' : null,
    up.admits < 1 ? `limited to ${percent(up.admits)}` : null
  ].filter(Boolean).join(', ')
  return el('button', {
    type: 'button',
    class: `cell ${up.admin === 'draining' || up.admin === 'forced_out' ? 'warn' : KINDS[up.health] || ''}`,
    'data-health': up.health,
    'data-upstream': `${service.name}/${up.provider}`,
    onclick: () => { state.open = { service: service.name, endpoint: up.endpoint, provider: up.provider }; detail(); $('upstream').showModal() }
  },
  el('span', { class: 'share' }, percent(up.share)),
  el('span', { class: 'health' }, `${SIGNS[up.health] || ''} ${hyphens(up.health)}`),
  bar(up.share),
  el('small', {}, `${up.rate.toFixed(1)}/s, ${percent(up.failing)} fail`),
  serves ? el('small', { class: 'first' }, 'serves first') : null,
  notes ? el('small', { class: 'warn' }, notes) : null)
}

// Drawn, since the policy of this page allows no inline style.
function bar (share) {
  const space = 'http://www.w3.org/2000/svg'
  const drawing = document.createElementNS(space, 'svg')
  const rect = document.createElementNS(space, 'rect')
  for (const [name, value] of [['class', 'bar'], ['width', '100%'], ['height', '5'], ['aria-hidden', 'true']]) drawing.setAttribute(name, value)
  rect.setAttribute('width', `${share * 100}%`)
  rect.setAttribute('height', '5')
  drawing.append(rect)
  return drawing
}

// ---- One upstream ------------------------------------------------------------------------------

function detail () {
  const { service: name, endpoint, provider } = state.open
  const service = state.status.services.find(other => other.name === name)
  const up = service && service.upstreams.find(other => other.endpoint === endpoint && other.provider === provider)
  $('upstream-title').textContent = `${name} through ${provider}`
  if (!up) {
    fill($('upstream-body'), 'gone', () => [el('p', {}, 'This upstream is no longer in the file.')])
    return
  }
  const last = up.last
  const facts = [
    ['health', hyphens(up.health)], ['share of safe requests', percent(up.share)], ['share of the others', percent(up.unsafe_share)],
    ['verdict', up.verdict], ['place', up.place ? words(up.place) : 'takes nothing now'], ['order', words(up.admin)],
    ['jurisdiction', law(up.jurisdiction)], ['preference', up.preference], ['attempts', `${up.rate.toFixed(1)}/s`],
    ['failing', percent(up.failing)], ['probe', up.probe ? `${up.probe.passed ? 'passed' : 'failed'} ${span(up.probe.seconds_ago)} ago` : 'none yet'],
    ['late after', span(up.late_after_seconds)], ['hold left', up.hold_seconds === null ? '–' : span(up.hold_seconds)],
    ['origin marker', up.marker_armed ? 'armed' : 'not armed'], ['endpoint', up.endpoint], ['addresses', up.addresses.join(', ') || 'none known']
  ]
  const body = $('upstream-body')
  if (body.dataset.key !== `${name} ${endpoint} ${provider}`) {
    fill(body, `${name} ${endpoint} ${provider}`, () => [
      el('p', { id: 'why' }),
      el('table', { class: 'scores' }, el('caption', { class: 'quiet' }, 'Scores; at 100% one trips'), el('tbody', { id: 'scores' })),
      el('dl', { class: 'facts', id: 'facts' }),
      el('p', { class: 'actions' }, ['drain', 'force_out', 'force_in'].map(what => el('button', {
        type: 'button', class: 'plain', onclick: () => { $('upstream').close(); giveOrder(`${name}/${provider}`, what) }
      }, `${words(what)}…`)))
    ])
  }
  $('why').textContent = last
    ? `${words(last.reason)}${last.detail ? ` (${last.detail})` : ''}, ${span(last.seconds_ago)} ago`
    : 'Nothing has changed here since the start.'
  const tiers = [['cascade', 'nearly everything fails'], ['brownout', 'a fifth fails'], ['gray', 'a few per cent fail']]
  $('scores').replaceChildren(...tiers.map(([tier, means]) => el('tr', {},
    el('th', { scope: 'row' }, tier, el('span', { class: 'quiet' }, means)),
    el('td', {}, el('meter', { min: 0, max: 1, low: 0.5, high: 0.99, optimum: 0, value: Math.min(up.scores[tier], 1), 'aria-label': `${tier} score` }), ` ${percent(up.scores[tier])}`))))
  $('facts').replaceChildren(...facts.map(([term, value]) => el('div', {}, el('dt', {}, term), el('dd', {}, String(value)))))
}

// ---- Orders ------------------------------------------------------------------------------------

function orders (status) {
  const standing = status.overrides
  fill($('orders'), JSON.stringify(standing), () => {
    if (!standing.length) return [el('p', { class: 'quiet' }, 'None: what is observed decides.')]
    const head = ['For', 'Order', 'Since', 'Until', 'Why', '']
    return [el('div', { class: 'wide' }, el('table', {},
      el('thead', {}, el('tr', {}, head.map(title => title ? el('th', { scope: 'col' }, title) : el('td', {})))),
      el('tbody', {}, standing.map(order => el('tr', { 'data-target': order.target },
        el('td', {}, el('b', {}, order.target)), el('td', {}, el('b', { class: 'warn' }, hyphens(order.order))),
        el('td', {}, 'since ', time(order.since)), el('td', {}, order.until ? ['until ', time(order.until)] : 'until it is taken back'),
        el('td', {}, order.reason || '–'),
        el('td', {}, el('button', { type: 'button', class: 'plain', onclick: () => takeBack(order) }, 'Take back…')))))))]
  })
}

const place = target => target.includes('/') ? target.split('/').reverse().join('/') : target

function takeBack (order) {
  confirmed(`Take back the order for ${order.target}?`, `${hyphens(order.order)} ends at once; what is observed decides again.`, 'Take it back',
    () => send('DELETE', `/v1/overrides/${place(order.target)}`).then(came => say(outcome(came))))
}

function outcome (came) {
  const about = came.upstreams.length ? list(came.upstreams) : 'no upstream'
  const parts = [came.changed ? `${came.target}: ${hyphens(came.order)} is in force in snapshot ${came.generation} for ${about}.` : `${came.target}: no order stood.`]
  if (came.closed.length) parts.push(`No upstream is left for ${list(came.closed)}: clients get the page.`)
  for (const routes of came.closed_routes) parts.push(`No upstream is left for ${routes.service} (${routesOf(routes)}): clients get the page there.`)
  if (came.barred.length) parts.push(`Residency keeps it out of ${list(came.barred)}.`)
  return parts.join(' ')
}

function giveOrder (target, what) {
  const { providers, services } = state.status
  const option = (value, text) => el('option', { value, selected: value === target }, text)
  $('target').replaceChildren(
    el('optgroup', { label: 'A provider, for every service' }, providers.map(p => option(p.name, p.name))),
    el('optgroup', { label: 'One service through one provider' }, services.flatMap(s =>
      s.upstreams.map(up => option(`${s.name}/${up.provider}`, `${s.name} through ${up.provider}`)))))
  $('order-form').elements.what.value = what || 'drain'
  $('reason').value = ''
  reviewing(false)
  $('order').showModal()
}

function reviewing (yes) {
  $('order-fields').hidden = yes
  $('order-review').hidden = !yes
  $('order-error').textContent = ''
  $('order-next').textContent = yes ? 'Give the order' : 'Review'
  $('order-back').textContent = yes ? 'Back' : 'Cancel'
  $('order-title').textContent = yes ? 'Give this order?' : 'Give an order'
}

function review () {
  const target = $('target').value
  const { providers, services } = state.status
  const what = $('order-form').elements.what.value
  const provider = target.split('/').pop()
  const about = target.includes('/') ? [target.split('/')[0]] : (providers.find(p => p.name === target) || { services: [] }).services
  const firsts = services.filter(s => about.includes(s.name) && s.first === provider).map(s => s.name)
  const effect = what === 'force_in' ? '' : firsts.length ? ` ${list(firsts)} will be served by somebody else at once.` : ' It is nobody’s first choice now.'
  const isOut = up => up.provider === provider || up.admin === 'draining' || up.admin === 'forced_out'
  const isOutOf = s => realm => realm.permitted.length > 0 && s.upstreams.filter(up => realm.permitted.includes(up.provider)).every(isOut)
  const shut = s => s.upstreams.every(isOut) ? [s.name] : s.realms.some(isOutOf(s)) ? [named(s, s.realms.filter(isOutOf(s)))] : []
  const alone = what === 'force_in' ? [] : services.filter(s => about.includes(s.name)).flatMap(shut)
  const warning = alone.length ? ` NO UPSTREAM IS LEFT for ${list(alone)}: its clients get the page.` : ''
  const until = $('lasts').selectedOptions[0].textContent
  $('order-review').className = 'review'
  $('order-review').textContent = `${hyphens(what)} ${target} (${about.length} ${about.length === 1 ? 'service' : 'services'}), ${$('lasts').value ? 'for ' : ''}${until}: ${$('reason').value.trim()}.${warning || effect}`
  reviewing(true)
  $('order-review').focus()
}

async function order () {
  const body = { target: $('target').value, order: $('order-form').elements.what.value, reason: $('reason').value.trim() }
  if ($('lasts').value) body.for = $('lasts').value
  $('order-next').disabled = true
  try {
    const came = await send('POST', '/v1/overrides', body)
    $('order').close()
    say(outcome(came))
  } catch (error) {
    $('order-error').textContent = error.message
  } finally {
    $('order-next').disabled = false
  }
}

let agreed = null
function confirmed (title, text, yes, action) {
  $('confirm-title').textContent = title
  $('confirm-text').textContent = text
  $('confirm-yes').textContent = yes
  $('confirm-error').textContent = ''
  agreed = action
  $('confirm').showModal()
}

// ---- What happened -----------------------------------------------------------------------------

function services (status) {
  const names = status.services.map(service => service.name)
  const chosen = $('whose').value
  fill($('whose'), names.join(), () => [el('option', { value: '' }, 'all'), ...names.map(name => el('option', { value: name, selected: name === chosen }, name))])
}

const BAD = ['failover', 'mode', 'origin_incident', 'common_cause', 'provider', 'incident_began']
const GOOD = ['failback', 'returned', 'incident_ended', 'started']

function tone (entry) {
  if (entry.to === 'ejected') return 'bad'
  if (entry.to === 'healthy' || entry.to === 'normal' || entry.text.includes('ended')) return 'good'
  if (entry.event === 'failover') return 'warn'
  if (BAD.includes(entry.event)) return 'bad'
  return GOOD.includes(entry.event) ? 'good' : 'calm'
}

function timeline () {
  const whose = $('whose').value
  const fitting = state.entries.filter(entry => !whose || entry.service === whose || entry.service === '*').reverse()
  const shown = fitting.slice(0, state.shown)
  $('older').hidden = fitting.length <= shown.length
  const kept = new Map([...$('timeline').children].map(item => [item.dataset.key, item]))
  const items = shown.map(entry => {
    const key = JSON.stringify(entry)
    return kept.get(key) || entryItem(entry, key)
  })
  if (!items.length) items.push(el('li', {}, el('p', { class: 'flat quiet' }, 'Nothing in the last 24 hours.')))
  const old = [...$('timeline').children]
  if (old.length !== items.length || old.some((item, place) => item !== items[place])) $('timeline').replaceChildren(...items)
}

function entryItem (entry, key) {
  const what = entry.text.split(/ \w+=/)[0]
  const move = entry.from && entry.to ? `${words(entry.from)} → ${words(entry.to)}` : ''
  const because = entry.reason ? `, ${words(entry.reason)}${entry.kind ? ` (${words(entry.kind)})` : ''}` : ''
  const who = [entry.service === '*' ? 'every service' : entry.service, entry.slice, entry.provider].filter(Boolean).join(', ')
  const facts = flat(entry)
  return el('li', { class: tone(entry), 'data-key': key, 'data-event': entry.event }, el('details', {},
    el('summary', {}, time(entry.at), el('b', {}, what), who ? ` ${who}` : '', move ? ` ${move}` : '', because),
    el('p', { class: 'text quiet' }, entry.text),
    el('dl', { class: 'facts' }, facts.map(([term, value]) => el('div', {}, el('dt', {}, words(term)), el('dd', {}, String(value)))))))
}

function flat (entry, front = '') {
  return Object.entries(entry).filter(([name]) => front || name !== 'text').flatMap(([name, value]) =>
    value !== null && typeof value === 'object' ? flat(value, `${name}: `) : [[front + name, value]])
}

// ---- Hands -------------------------------------------------------------------------------------

function start () {
  $('filter').addEventListener('input', () => state.status && grid(state.status))
  $('troubled').addEventListener('change', () => state.status && grid(state.status))
  $('whose').addEventListener('change', timeline)
  $('older').addEventListener('click', () => { state.shown += PAGE_OF_ENTRIES; timeline() })
  $('give').addEventListener('click', () => giveOrder())
  $('leave').addEventListener('click', () => { sessionStorage.removeItem('token'); location.reload() })
  $('reload').addEventListener('click', () => confirmed('Reload the file?', 'It is read now, whether or not it has changed. With mistakes in it, nothing changes.', 'Reload',
    () => send('POST', '/v1/reload').then(came => say(`In force: ${came.services} services, ${came.upstreams} upstreams. ${came.warnings.length} warnings.`))))
  $('upstream').addEventListener('close', () => { state.open = null })
  for (const button of document.querySelectorAll('[data-close]')) button.addEventListener('click', () => $(button.dataset.close).close())
  $('order-back').addEventListener('click', () => $('order-review').hidden ? $('order').close() : reviewing(false))
  $('order-form').addEventListener('submit', submitted => { submitted.preventDefault(); $('order-review').hidden ? review() : order() })
  $('confirm-form').addEventListener('submit', submitted => {
    submitted.preventDefault()
    agreed().then(() => $('confirm').close(), error => { $('confirm-error').textContent = error.message })
  })
  $('login-form').addEventListener('submit', submitted => {
    submitted.preventDefault()
    sessionStorage.setItem('token', $('token').value.trim())
    $('token').value = ''
    $('login').hidden = true
    listen()
  })
  setInterval(link, 1000)
  listen()
}

start()
