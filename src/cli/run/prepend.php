<?php
// `manent run` and `manent env` have PHP read this file first. file_get_contents() and PHP's other streams look at no proxy
// variables: their default context gets the proxy in HTTPS_PROXY. A context that a program makes itself is left alone.
(static function () {
    $proxy = parse_url((string) getenv('HTTPS_PROXY'));
    if (!isset($proxy['host'], $proxy['port'])) {
        return;
    }
    $options = ['proxy' => "tcp://{$proxy['host']}:{$proxy['port']}", 'request_fulluri' => true];
    if (isset($proxy['user'])) {
        $pair = rawurldecode($proxy['user']) . ':' . rawurldecode($proxy['pass'] ?? '');
        $options['header'] = 'Proxy-Authorization: Basic ' . base64_encode($pair);
    }
    stream_context_set_default(['http' => $options]);
})();
