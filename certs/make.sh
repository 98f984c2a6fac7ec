#!/bin/sh
# Makes the test CAs of this directory anew, with OpenSSL 3. They begin in 2020, so that tests do not hang on the clock.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/index"
cat > "$work/conf" <<CONF
[ca]
default_ca = it
[it]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = ext
[any]
organizationName = supplied
commonName = supplied
[ext]
subjectKeyIdentifier = hash
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
[req]
distinguished_name = none
[none]
CONF
make() { # make NAME CN KEY-OPTION...: NAME.key and NAME.pem in $work
    name=$1 cn=$2; shift 2
    openssl req -config "$work/conf" -new -noenc -keyout "$work/$name.key" -out "$work/$name.csr" \
        -subj "/O=manent tests/CN=$cn" "$@"
    openssl ca -config "$work/conf" -batch -notext -selfsign -keyfile "$work/$name.key" -in "$work/$name.csr" \
        -out "$work/$name.pem" -startdate 20200101000000Z -enddate 21200101000000Z
}
make ec "manent TEST CA - never trust it" -newkey ec -pkeyopt ec_paramgen_curve:P-256
make rsa "manent TEST CA (RSA) - never trust it" -newkey rsa:2048
cp "$work/ec.pem" test-ca.pem
cp "$work/ec.key" test-ca.key
{ openssl rsa -in "$work/rsa.key" -traditional; cat "$work/rsa.pem"; } > test-ca-rsa.pem
{ openssl ec -in "$work/ec.key" -param_out; openssl ec -in "$work/ec.key"; cat "$work/ec.pem"; } > test-ca-sec1.pem
